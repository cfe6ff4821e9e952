//! Bundles the explorer (GraphiQL with a sign-in) for `lib.rs` to embed.
//!
//! Nothing is written outside Cargo's target directory. What was bundled is kept there by the hash of its sources, for all
//! profiles: npm runs only for sources that were not bundled yet, on a copy. Without npm the explorer is a page that says what
//! to install; in CI (`CI=true`) that is an error.

use std::{
    collections::hash_map::DefaultHasher,
    env,
    error::Error,
    fs,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

const SOURCES: [&str; 6] = [
    "build.rs",
    "package.json",
    "package-lock.json",
    "build.mjs",
    "index.html",
    "src",
];

const ADVICE: &str = "The explorer is left out. It needs Node.js 20.12 or newer with npm, and npm's registry: \
     install them, `touch explorer/build.rs`, then build again.";

const FALLBACK: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"color-scheme\" content=\"light dark\">
<title>Rollcall explorer</title>
<body style=\"max-width: 40rem; margin: 10vh auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif\">
<h1>The explorer is not part of this build</h1>
<p>It needs Node.js 20 or newer with npm, and npm's registry. Install them where Rollcall is built,
<code>touch explorer/build.rs</code>, then build it again.</p>
<p>The API itself is served at <code>/graphql</code>.</p>
";

fn main() -> Result<(), Box<dyn Error>> {
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let page = match build(&root, &out) {
        Ok(page) => page,
        Err(problem) => {
            let problem = format!("{problem}\n{ADVICE}");
            if env::var("CI").is_ok_and(|ci| ci == "true") {
                return Err(problem.into());
            }
            println!("cargo::rerun-if-env-changed=CI");
            for line in problem.lines() {
                println!("cargo::warning={line}");
            }
            let page = out.join("fallback");
            fs::create_dir_all(&page)?;
            fs::write(page.join("index.html"), FALLBACK)?;
            page
        }
    };
    println!("cargo::rustc-env=EXPLORER={}", page.display());
    Ok(())
}

/// The folder of the bundle.
fn build(root: &Path, out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let mut hasher = DefaultHasher::new();
    for source in SOURCES {
        hash(&root.join(source), &mut hasher)?;
    }
    // Cargo marks the root of its target directory with this file.
    let target = out.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    let kept = target.unwrap_or(out).join("explorer");
    let page = kept.join(format!("{:016x}", hasher.finish()));
    if page.exists() {
        return Ok(page);
    }

    let work = out.join("work");
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
    run(Command::new("node").args(["build.mjs", "page"]).current_dir(&work))?;
    fs::create_dir_all(&kept)?;
    // Another build may have been faster.
    let moved = fs::rename(work.join("page"), &page);
    if !page.exists() {
        moved?;
    }
    remove(&work)?; // hundreds of megabytes
    Ok(page)
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
