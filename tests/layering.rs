//! The directions between the folders of `src/`: who may import whom, and where `unsafe` may stand.
//!
//! Paths are read from the text of the files, without comments, strings and tests: `crate::x`, and `super::` where it
//! leaves a folder.

use std::path::{Path, PathBuf};

/// Each folder with what it may import besides itself. A name with `::` allows a part of a folder.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("tensor", &[]),
    ("ops", &["tensor"]),
    ("graph", &["ops", "tensor"]),
    ("backends", &["graph", "ops", "tensor"]),
    ("models", &["graph", "ops", "tensor"]),
    ("text", &["models::gguf"]),
    ("engine", &["backends", "graph", "models", "ops", "tensor", "text"]),
    ("cli", &["engine", "graph", "models", "ops", "tensor", "text"]),
];

/// Parts of folders that must not know of each other, although their folder may.
const APART: &[(&str, &str)] = &[
    ("backends/cpu", "backends::hip"),
    ("backends/hip", "backends::cpu"),
    ("graph/passes", "graph::plan"),
    ("ops", "graph"),
];

/// Where `unsafe` may stand.
const UNSAFE: &[&str] = &["backends/cpu/simd", "backends/hip/ffi", "models/gguf/map.rs"];

#[test]
fn folders_import_only_what_they_may() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let Some(folder) = name.split('/').next().filter(|_| name.contains('/')) else { continue };
        if folder == "bin" {
            continue;
        }
        let (_, allowed) =
            MAY_IMPORT.iter().find(|(f, _)| *f == folder).unwrap_or_else(|| panic!("src/{folder} is not in the table"));
        for path in imports(&name, &text) {
            let within = |prefix: &str| path == prefix || path.starts_with(&format!("{prefix}::"));
            if !within(folder) && !allowed.iter().any(|a| within(a)) {
                wrong.push(format!("src/{name} imports {path}"));
            }
            if APART.iter().any(|(from, to)| name.starts_with(from) && within(to)) {
                wrong.push(format!("src/{name} imports {path}, which must stay apart"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stands_only_where_it_may() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let has = text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
        if has && !UNSAFE.iter().any(|place| name.starts_with(place)) {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "unsafe code in {wrong:?}");
}

#[test]
fn imports_are_found() {
    let text = code(
        "use crate::graph::{plan::Plan, Node};\n// use crate::engine::X;\nlet x = \"crate::cli\"; fn f() { super::super::y::z() }",
    );
    let mut found = imports("models/gguf/map.rs", &text);
    found.sort();
    assert_eq!(found, ["graph::Node", "graph::plan::Plan", "models::y::z"]);
    assert_eq!(
        imports("models/gguf/mod.rs", &code("use super::config::C; use super::super::text::T;")),
        ["models::config::C", "text::T"]
    );
    assert_eq!(
        code("a /* b */ c // d\n'\"' e \"f\\\"g\" h").split_whitespace().collect::<Vec<_>>(),
        ["a", "c", "e", "h"]
    );
}

/// Names below `src/` with the code of all files.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 50);
    let source = |path: &PathBuf| {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
        (name, code(&std::fs::read_to_string(path).unwrap()))
    };
    files.iter().map(source).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") && path.file_stem().is_none_or(|s| s != "tests") {
            files.push(path);
        }
    }
}

/// A text without comments, strings and what follows `#[cfg(test)]`.
fn code(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skip = if rest.starts_with("#[cfg(test)]") {
            rest.len()
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if rest.starts_with("'\"'") {
            3
        } else if let Some(escape) = rest.strip_prefix("'\\") {
            escape
                .char_indices()
                .nth(1)
                .and_then(|(at, _)| rest[2 + at..].find('\'').map(|end| 2 + at + end + 1))
                .unwrap_or(1)
        } else if c == '"' {
            string_len(rest)
        } else {
            0
        };
        if skip > 0 {
            out.push(' ');
            rest = &rest[skip..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// All paths of a file as they read from the crate's root.
fn imports(name: &str, text: &str) -> Vec<String> {
    // The module that a file is, as the path of the names in it.
    let mut module: Vec<&str> = name.trim_end_matches(".rs").split('/').collect();
    if module.last() == Some(&"mod") {
        module.pop();
    }
    let mut found = Vec::new();
    for (start, word) in words(text) {
        if text[..start].ends_with("::") || !matches!(word, "crate" | "super") {
            continue;
        }
        let (mut base, mut rest) = (module.clone(), &text[start..]);
        if let Some(after) = rest.strip_prefix("crate::") {
            (base, rest) = (Vec::new(), after);
        } else if !rest.starts_with("super::") {
            continue;
        }
        while let Some(after) = rest.strip_prefix("super::") {
            base.pop();
            rest = after;
        }
        tree(&base.join("::"), rest, &mut found);
    }
    found
}

fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.split(move |c| !is_word(c))
        .filter(|w| !w.is_empty())
        .map(|w| (w.as_ptr() as usize - text.as_ptr() as usize, w))
}

/// The paths that `rest` begins with: a path, or a tree of paths in braces.
fn tree(base: &str, rest: &str, found: &mut Vec<String>) {
    let join = |part: &str| if base.is_empty() { part.to_string() } else { format!("{base}::{part}") };
    if let Some(inner) = rest.strip_prefix('{') {
        let (mut depth, mut begin) = (0, 0);
        for (at, c) in inner.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' => {
                    if depth == 0 {
                        tree(base, inner[begin..at].trim(), found);
                        begin = at + 1;
                    }
                    if c == '}' {
                        return;
                    }
                }
                _ => {}
            }
        }
        return;
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    if end == 0 {
        return;
    }
    match rest[end..].strip_prefix("::") {
        Some(more) if more.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '{') => {
            tree(&join(&rest[..end]), more, found)
        }
        _ => found.push(join(&rest[..end])),
    }
}
