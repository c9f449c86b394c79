//! [`Input`]: what is dumped, a model's header or the text of a graph.

use crate::cli::Failure;
use crate::cli::io::{is_dash, read_bytes};
use crate::engine::KvType;
use crate::graph::Graph;
use crate::graph::text::{ParseError, parse};
use crate::models::gguf::Header;
use crate::models::{Config, GraphOptions, build, build_part};
use crate::tensor::Bounds;
use std::io::{IsTerminal, Read};
use std::ops::Range;
use std::path::Path;

/// What is dumped.
pub enum Input {
    /// A model, by its header: no weight is read.
    Model {
        /// How messages call it.
        name: String,
        /// The header.
        header: Box<Header>,
        /// The hyperparameters.
        config: Box<Config>,
    },
    /// A graph that was written by hand or dumped before.
    Text(Box<Graph>),
}

impl Input {
    /// From `--model`, a file of either kind, or stdin.
    pub fn open(model: Option<&Path>, file: Option<&Path>) -> Result<Input, Failure> {
        match (model, file) {
            (Some(path), _) if is_dash(path) => Input::model("stdin", Header::parse(&read_bytes(path)?)?),
            (Some(path), _) => Input::model(path.display(), Header::read(path)?),
            (None, Some(path)) if !is_dash(path) => {
                if starts_as_gguf(path) {
                    return Input::model(path.display(), Header::read(path)?);
                }
                Input::bytes(&path.display().to_string(), read_bytes(path)?)
            }
            (None, None) if std::io::stdin().is_terminal() => Err(Failure::new("nothing to dump was given")
                .hint("give a model with --model FILE, or a graph's text as a file or on stdin")),
            (None, _) => Input::bytes("stdin", read_bytes(Path::new("-"))?),
        }
    }

    fn bytes(name: &str, bytes: Vec<u8>) -> Result<Input, Failure> {
        if bytes.starts_with(b"GGUF") {
            return Input::model(name, Header::parse(&bytes)?);
        }
        let text = String::from_utf8(bytes).map_err(|_| {
            Failure::new(format!("{name} is neither a GGUF file nor UTF-8 text"))
                .hint("a graph's text begins with `graph \"name\" (T <= 1, S <= 1, R <= 1) {`")
        })?;
        match parse(&text) {
            Ok(graph) => Ok(Input::Text(Box::new(graph))),
            Err(error) => Err(in_text(name, &text, &error)),
        }
    }

    fn model(name: impl ToString, header: Header) -> Result<Input, Failure> {
        let name = name.to_string();
        if header.tensors().is_empty() {
            return Err(Failure::new(format!("{name} has no tensors, only a vocabulary"))
                .hint("a graph is made of weights; give a file that has them"));
        }
        match Config::read(&header) {
            Ok(config) => Ok(Input::Model { name, header: Box::new(header), config: Box::new(config) }),
            Err(error) => Err(named(&name, error.into())),
        }
    }

    /// The graph for bounds, of some of a model's layers or of all.
    pub fn graph(&self, bounds: Bounds, kv_type: KvType, layers: Option<&Range<usize>>) -> Result<Graph, Failure> {
        match self {
            Input::Model { name, header, .. } => {
                let options = GraphOptions { bounds, kv_type: kv_type.dtype(header) };
                let built = match layers {
                    Some(layers) => build_part(header, &options, layers.clone()),
                    None => build(header, &options),
                };
                built.map_err(|error| named(name, error.into()))
            }
            Input::Text(graph) => {
                let mut graph = (**graph).clone();
                graph.bounds = bounds;
                Ok(graph)
            }
        }
    }
}

fn starts_as_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut magic)).is_ok() && magic == *b"GGUF"
}

fn named(name: &str, failure: Failure) -> Failure {
    match failure {
        Failure::Error { message, hint } => Failure::Error { message: format!("{name}: {message}"), hint },
        other => other,
    }
}

/// The line that is wrong with a mark under the place.
fn in_text(name: &str, text: &str, error: &ParseError) -> Failure {
    let (line, column) = (error.position.line, error.position.column);
    let source = text.lines().nth(line - 1).unwrap_or_default();
    // A very long line is shown around the place.
    let first = column.saturating_sub(80);
    let shown: String = source.chars().skip(first).take(160).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let margin = " ".repeat(line.to_string().len());
    let excerpt = format!("{line} | {shown}\n{margin} | {}^", " ".repeat(column - 1 - first.min(column - 1)));
    Failure::InText { message: format!("{name}:{error}"), excerpt }
}
