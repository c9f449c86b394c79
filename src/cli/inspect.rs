//! `inspect`: what a GGUF file says.

use super::Failure;
use super::format::{bytes, count, shown};
use super::io::Output;
use super::source::ModelSource;
use crate::models::gguf::{Array, Header, Value};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Map, json};
use std::path::PathBuf;

/// Show the metadata and tensors of a GGUF file
#[derive(Args, Debug)]
#[command(after_help = "The whole file is checked: a file that inspect accepts can be read.

Examples:
  rocmforge inspect model.gguf
  rocmforge inspect model.gguf --json | jq '.metadata[\"llama.context_length\"].value'")]
pub struct InspectArgs {
    /// GGUF file; - is stdin; without it the bundled model
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print JSON, with all elements of arrays
    #[arg(long)]
    json: bool,
    /// Accept a file whose tensor data is not complete, such as the first megabytes of a download
    #[arg(long)]
    header_only: bool,
}

/// Runs it.
pub fn run(args: InspectArgs) -> Result<(), Failure> {
    let source = ModelSource::from_option(args.file.as_deref())?;
    let header = if args.header_only { source.header()? } else { source.gguf()?.header().clone() };
    let mut out = Output::stdout();
    if args.json {
        out.json(&as_json(&source, &header))?;
    } else {
        show(&mut out, &source, &header)?;
    }
    out.finish()
}

fn parameters(header: &Header) -> u64 {
    header.tensors().iter().map(|tensor| tensor.elements()).fold(0, u64::saturating_add)
}

fn show(out: &mut Output, source: &ModelSource, header: &Header) -> Result<(), Failure> {
    out.line(format_args!(
        "{}: GGUF version {}, {}, alignment {}, {} keys, {} tensors, {} parameters",
        source,
        header.version(),
        bytes(header.file_size()),
        header.alignment(),
        header.metadata().len(),
        header.tensors().len(),
        count(parameters(header)),
    ))?;
    if !header.metadata().is_empty() {
        let mut table = table(&["key", "type", "value"]);
        for (key, value) in header.metadata().iter() {
            table.add_row([shown(key, 200), value.type_name(), shown_value(value)]);
        }
        out.line(format_args!("\n{table}"))?;
    }
    if !header.tensors().is_empty() {
        let mut table = table(&["tensor", "type", "shape", "bytes", "offset"]);
        for tensor in header.tensors() {
            let shape = tensor.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" × ");
            let numbers = [tensor.bytes.to_string(), tensor.offset.to_string()];
            let [bytes, offset] = numbers;
            table.add_row([shown(&tensor.name, 64), tensor.dtype.to_string(), shape, bytes, offset]);
        }
        for column in [3, 4] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        out.line(format_args!("\n{table}"))?;
    }
    Ok(())
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_header(head);
    table
}

fn shown_value(value: &Value) -> String {
    match value {
        Value::String(text) => shown(text, 120),
        Value::Array(array) => shown_array(array),
        Value::Malformed { problem, .. } => format!("malformed: {}", shown(problem, 120)),
        other => scalar(other).to_string(),
    }
}

/// The number of elements and the first few.
fn shown_array(array: &Array) -> String {
    const FIRST: usize = 6;
    let first: Vec<String> = match array {
        Array::String(texts) => texts.iter().take(FIRST).map(|text| format!("\"{}\"", shown(text, 24))).collect(),
        other => elements(other, FIRST).iter().map(ToString::to_string).collect(),
    };
    let more = if array.len() > FIRST { ", …" } else { "" };
    format!("{} of [{}{more}]", array.len(), first.join(", "))
}

fn as_json(source: &ModelSource, header: &Header) -> serde_json::Value {
    let value = |value: &Value| match value {
        Value::Array(array) => json!({ "type": value.type_name(), "value": elements(array, usize::MAX) }),
        Value::Malformed { problem, .. } => json!({ "type": value.type_name(), "value": null, "malformed": problem }),
        _ => json!({ "type": value.type_name(), "value": scalar(value) }),
    };
    let metadata: Map<String, serde_json::Value> =
        header.metadata().iter().map(|(key, v)| (key.to_string(), value(v))).collect();
    let tensors: Vec<_> = header
        .tensors()
        .iter()
        .map(|t| json!({ "name": t.name, "type": t.dtype.to_string(), "shape": t.shape, "offset": t.offset, "bytes": t.bytes }))
        .collect();
    json!({
        "file": source.to_string(),
        "version": header.version(),
        "alignment": header.alignment(),
        "file_size": header.file_size(),
        "data_start": header.data_start(),
        "parameters": parameters(header),
        "metadata": metadata,
        "tensors": tensors,
    })
}

/// A number, bool or text. Floats that JSON cannot express are texts.
fn scalar(value: &Value) -> serde_json::Value {
    match value {
        Value::U8(v) => json!(v),
        Value::I8(v) => json!(v),
        Value::U16(v) => json!(v),
        Value::I16(v) => json!(v),
        Value::U32(v) => json!(v),
        Value::I32(v) => json!(v),
        Value::U64(v) => json!(v),
        Value::I64(v) => json!(v),
        Value::F32(v) => float32(*v),
        Value::F64(v) => float64(*v),
        Value::Bool(v) => json!(v),
        Value::String(v) => json!(v),
        Value::Array(_) | Value::Malformed { .. } => serde_json::Value::Null,
    }
}

/// With the digits that the f32 has, not those of the f64 that JSON makes of it.
fn float32(x: f32) -> serde_json::Value {
    float64(x.to_string().parse().unwrap_or(f64::NAN))
}

fn float64(x: f64) -> serde_json::Value {
    if x.is_finite() { json!(x) } else { json!(x.to_string()) }
}

fn elements(array: &Array, most: usize) -> Vec<serde_json::Value> {
    macro_rules! take {
        ($elements:expr, $to_json:expr) => {
            $elements.iter().take(most).map($to_json).collect()
        };
    }
    match array {
        Array::U8(v) => take!(v, |x| json!(x)),
        Array::I8(v) => take!(v, |x| json!(x)),
        Array::U16(v) => take!(v, |x| json!(x)),
        Array::I16(v) => take!(v, |x| json!(x)),
        Array::U32(v) => take!(v, |x| json!(x)),
        Array::I32(v) => take!(v, |x| json!(x)),
        Array::U64(v) => take!(v, |x| json!(x)),
        Array::I64(v) => take!(v, |x| json!(x)),
        Array::F32(v) => take!(v, |&x| float32(x)),
        Array::F64(v) => take!(v, |&x| float64(x)),
        Array::Bool(v) => take!(v, |x| json!(x)),
        Array::String(v) => take!(v, |x| json!(x)),
    }
}
