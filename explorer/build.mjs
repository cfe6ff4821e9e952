// Bundles the explorer: `node build.mjs FOLDER` writes index.html, licences.txt and assets/, whose
// names are hashed, and a .br and .gz of each file.
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";
import { build } from "esbuild";

if (!process.argv[2]) throw new Error("usage: node build.mjs FOLDER");
const folder = resolve(process.argv[2]);
const assets = join(folder, "assets");
process.chdir(import.meta.dirname);
await rm(folder, { recursive: true, force: true });
await mkdir(assets, { recursive: true });

const options = {
  bundle: true,
  minify: true,
  metafile: true,
  legalComments: "none", // they are in licences.txt
  target: ["chrome123", "firefox121", "safari17.5"],
  outdir: assets,
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  assetNames: "[name]-[hash]",
};

// Monaco's workers first: the page needs their hashed names.
const workers = await build({
  ...options,
  format: "iife",
  entryPoints: {
    editor: "monaco-editor/esm/vs/editor/editor.worker.js",
    json: "monaco-editor/esm/vs/language/json/json.worker.js",
    graphql: "monaco-graphql/esm/graphql.worker.js",
  },
});
const workerNames = Object.entries(workers.metafile.outputs).map(([path, { entryPoint }]) => {
  const label = /(\w+)\.worker\.js$/.exec(entryPoint)[1];
  return [label, basename(path)];
});

const page = await build({
  ...options,
  format: "esm",
  splitting: true,
  jsx: "automatic",
  entryPoints: ["src/main.tsx"],
  loader: { ".ttf": "file" },
  // GraphiQL imports the CommonJS builds of these, whose named exports esbuild cannot see.
  alias: {
    "prettier/parser-babel": "prettier/plugins/babel",
    "prettier/parser-graphql": "prettier/plugins/graphql",
  },
  define: {
    WORKERS: JSON.stringify(Object.fromEntries(workerNames)),
    "process.env.NODE_ENV": '"production"',
  },
});

// The page's style sheet includes those of its lazy chunks: the chunks' own style sheets are not used.
const outputs = Object.entries(page.metafile.outputs);
const [script, { cssBundle: styles }] = outputs.find(([, output]) => output.entryPoint === "src/main.tsx");
for (const [path] of outputs) {
  if (path.endsWith(".css") && path !== styles) await rm(path);
}
const tags = `<link rel="stylesheet" href="graphiql/assets/${basename(styles)}">
    <script type="module" src="graphiql/assets/${basename(script)}"></script>`;
const template = await readFile("index.html", "utf8");
await writeFile(join(folder, "index.html"), template.replace("<!-- assets -->", tags));

// The bundle is distributed with the binary, so its licences have to be too.
const inputs = Object.keys({ ...workers.metafile.inputs, ...page.metafile.inputs });
const packages = inputs.flatMap((path) => /^.*node_modules\/(@[^/]+\/)?[^/]+/.exec(path)?.[0] ?? []);
let licences = "";
for (const path of [...new Set(packages)].sort()) {
  const { name, version, license } = JSON.parse(await readFile(join(path, "package.json"), "utf8"));
  const file = (await readdir(path)).find((entry) => /^licen[cs]e/i.test(entry));
  const text = file ? await readFile(join(path, file), "utf8") : "";
  licences += `${name} ${version} (${license})\n\n${text.trim()}\n\n${"-".repeat(80)}\n`;
}
await writeFile(join(folder, "licences.txt"), licences);

const compressions = [
  [".br", promisify(brotliCompress), { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }],
  [".gz", promisify(gzip), { level: 9 }],
];
const entries = await readdir(folder, { recursive: true, withFileTypes: true });
await Promise.all(
  entries.map(async (entry) => {
    if (!entry.isFile()) return;
    const file = join(entry.parentPath, entry.name);
    const content = await readFile(file);
    for (const [suffix, compress, settings] of compressions) {
      await writeFile(file + suffix, await compress(content, settings));
    }
  }),
);
