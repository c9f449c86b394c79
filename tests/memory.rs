//! What runs take of the system's memory, against the bill; and weights that stay in the file.

use rocmforge::backends::cpu::{CpuTarget, Level};
use rocmforge::engine::{DeviceChoice, LoadOptions, Model, Session, SessionOptions, layers_bill};
use rocmforge::graph::passes::PassOptions;
use rocmforge::graph::plan::MemoryBill;
use rocmforge::models::gguf::{Gguf, Header};
use rocmforge::models::synthetic::Synthetic;
use std::path::{Path, PathBuf};

const TOKENS: usize = 16;

/// A file of random weights.
fn file(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(name.replace(':', "-"));
    Synthetic::new(name).unwrap().write_file(&path, &mut |_, _| true).unwrap();
    path
}

fn options() -> SessionOptions {
    SessionOptions { context: TOKENS, ..SessionOptions::default() }
}

fn bill(path: &Path, no_repack: bool) -> MemoryBill {
    let header = Header::read(path).unwrap();
    let layers = 0..header.metadata().u64("llama.block_count").unwrap().unwrap() as usize;
    let target = CpuTarget { repack: !no_repack, ..CpuTarget::of_level(2, Level::best()) };
    layers_bill(&header, &layers, &options(), &target, &PassOptions::default()).unwrap()
}

/// The most memory that a process has had so far, in bytes.
#[cfg(all(target_os = "linux", feature = "cli"))]
fn peak(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<usize>().unwrap() << 10
}

/// The peak of a process that has loaded the model and run a prompt.
#[cfg(all(target_os = "linux", feature = "cli"))]
fn peak_of_a_run(path: &Path, more: &[&str]) -> usize {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_rocmforge"))
        .args(["bench", "--paced", "--device", "cpu", "-t", "2", "-n", "0", "-r", "1", "-p", "2", "-m"])
        .arg(path)
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("pp2"), "{line}");
    let peak = peak(child.id());
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    peak
}

/// What the program takes without weights is measured with a model that has next to none.
#[cfg(all(target_os = "linux", feature = "cli"))]
#[test]
fn a_run_takes_the_memory_of_the_bill() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = file(&folder, "tiny:Q8_0");
    let program = peak_of_a_run(&tiny, &[]) - bill(&tiny, false).allocated();
    for kind in ["Q8_0", "Q4_K_M", "F16"] {
        let path = file(&folder, &format!("small:{kind}"));
        let (found, bill) = (peak_of_a_run(&path, &[]), bill(&path, false));
        assert!(bill.allocated() > 50 << 20, "{kind}: a model that is worth measuring, {bill:?}");
        // Pages of the file stand beside the weights while they are packed, a part of 8 MiB at a time, and then those around the
        // rows of the embedding that two tokens read, of which the bill has all: a row brings a large page of the file at most.
        let rows = 2 * (2 << 20);
        assert!(4 * rows < bill.mapped);
        let most = bill.allocated() + bill.allocated() / 20 + (8 << 20) + rows + program;
        assert!(found <= most, "{kind}: {found} bytes, the bill and the program allow {most} ({bill:?}, {program})");
        std::fs::remove_file(path).unwrap();
    }
}

#[cfg(all(target_os = "linux", feature = "cli"))]
#[test]
fn weights_that_stay_in_the_file_are_its_pages() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "small:Q8_0");
    let bill = bill(&path, true);
    assert!(bill.mapped > 90 << 20 && bill.allocated() < 30 << 20, "{bill:?}");
    let found = peak_of_a_run(&path, &["--no-repack"]);
    let most = bill.allocated() + bill.mapped + (48 << 20);
    assert!(found <= most, "{found} bytes of {most}");
}

fn open(path: &Path, no_repack: bool) -> Model {
    let options =
        LoadOptions { device: DeviceChoice::Cpu, threads: 2, session: options(), no_repack, ..LoadOptions::default() };
    Model::from_gguf(Gguf::open(path).unwrap(), &options, &mut |_| true).unwrap()
}

#[test]
fn weights_in_the_file_give_the_same_results() {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["Q8_0", "Q4_K_M", "IQ4_XS", "TQ2_0", "F16", "BF16"] {
        let path = file(&folder, &format!("small:{kind}"));
        let ids: Vec<u32> = (0..TOKENS as u32).map(|i| i * 1999 % 32000).collect();
        let logits = |no_repack: bool, ids: &[u32]| {
            let mut session = Session::new(&open(&path, no_repack), &options()).unwrap();
            assert_eq!(session.memory(), session.allocated());
            assert_eq!(session.memory(), bill(&path, no_repack));
            session.prefill(ids, &mut |_, _| ()).unwrap();
            session.logits().to_vec()
        };
        for ids in [&ids[..], &ids[..1]] {
            let (packed, mapped) = (logits(false, ids), logits(true, ids));
            assert!(
                packed.iter().zip(&mapped).all(|(a, b)| a.to_bits() == b.to_bits()),
                "{kind}, {} tokens",
                ids.len()
            );
        }
        std::fs::remove_file(path).unwrap();
    }
}
