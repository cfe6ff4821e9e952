//! Builds the explorer (`explorer/`, GraphiQL with a sign-in) into `OUT_DIR/explorer`, from where
//! `src/http/explorer.rs` takes it into the binary.
//!
//! Nothing is written outside `OUT_DIR`: npm works on a copy there, and only when the sources changed.
//! Without npm the server is built all the same, with a page that says what to install, and each
//! following build tries again; in CI (`CI=true`) that is an error.

use std::{
    collections::hash_map::DefaultHasher,
    env,
    error::Error,
    fs,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

const SOURCES: [&str; 5] = ["package.json", "package-lock.json", "build.mjs", "index.html", "src"];

const ADVICE: &str = "The explorer is left out. It needs Node.js 20 or newer with npm, and npm's registry: \
     install them, then build again.";

const FALLBACK: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"color-scheme\" content=\"light dark\">
<title>Rollcall explorer</title>
<body style=\"max-width: 40rem; margin: 10vh auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif\">
<h1>The explorer is not part of this build</h1>
<p>It needs Node.js 20 or newer with npm, and npm's registry. Install them where Rollcall is built,
then build it again.</p>
<p>The API itself is served at <code>/graphql</code>.</p>
";

fn main() -> Result<(), Box<dyn Error>> {
    for source in SOURCES {
        println!("cargo::rerun-if-changed=explorer/{source}");
    }
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("explorer");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let Err(problem) = build(&root, &out) else {
        return Ok(());
    };
    let problem = format!("{problem}\n{ADVICE}");
    if env::var("CI").is_ok_and(|ci| ci == "true") {
        return Err(problem.into());
    }
    for line in problem.lines() {
        println!("cargo::warning={line}");
    }
    // A file that never exists: the next build runs this again.
    println!("cargo::rerun-if-changed={}", out.join("explorer.missing").display());
    let page = out.join("explorer");
    remove(&page)?;
    fs::create_dir_all(&page)?;
    fs::write(page.join("index.html"), FALLBACK)?;
    Ok(())
}

fn build(root: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let page = out.join("explorer");
    let stamp = out.join("explorer.stamp");
    let mut hasher = DefaultHasher::new();
    for source in SOURCES {
        hash(&root.join(source), &mut hasher)?;
    }
    let sources = format!("{:016x}", hasher.finish());
    let built = fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == sources);
    if built && page.join("index.html").exists() {
        return Ok(());
    }
    remove(&stamp)?;

    let work = out.join("explorer-build");
    remove(&work)?;
    fs::create_dir_all(&work)?;
    for source in SOURCES {
        copy(&root.join(source), &work.join(source))?;
    }
    let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
    run(Command::new(npm)
        .args([
            "ci",
            "--omit=dev",
            "--ignore-scripts",
            "--prefer-offline",
            "--fetch-retries=1",
        ])
        .args(["--no-audit", "--no-fund"])
        .current_dir(&work))?;
    run(Command::new("node").arg("build.mjs").arg(&page).current_dir(&work))?;
    remove(&work)?; // hundreds of megabytes
    fs::write(&stamp, sources)?;
    Ok(())
}

fn hash(path: &Path, hasher: &mut DefaultHasher) -> Result<(), Box<dyn Error>> {
    path.file_name().hash(hasher);
    if path.is_dir() {
        for entry in entries(path)? {
            hash(&entry, hasher)?;
        }
    } else {
        fs::read(path)?.hash(hasher);
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in entries(from)? {
            if let Some(name) = entry.file_name() {
                copy(&entry, &to.join(name))?;
            }
        }
    } else {
        fs::copy(from, to)?;
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        entries.push(entry?.path());
    }
    entries.sort();
    Ok(entries)
}

fn remove(path: &Path) -> Result<(), Box<dyn Error>> {
    if path.is_dir() {
        fs::remove_dir_all(path)?;
    } else if path.exists() {
        fs::remove_file(path)?;
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{name} could not be run: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{name} failed ({})\n{}", output.status, said.trim()).into());
    }
    Ok(())
}
