//! Uploads to the emulated device against what was packed whole; and what goes wrong, in processes of their own where the emulator is
//! told by its environment.

use super::*;
use crate::backends::hip::ffi::{Pinned, Runtime, emulator};
use crate::backends::hip::planes;
use crate::tensor::DType;
use std::process::Command;
use std::sync::atomic::AtomicU64;

fn device() -> Option<Arc<Device>> {
    let runtime = Runtime::open_library(&emulator::libraries()?[0]).unwrap();
    Some(Device::open(&runtime, 0).unwrap())
}

/// Small pieces, so that small matrices have several.
const SMALL: usize = 64 << 10;

/// Types with planes, and some without.
fn types() -> impl Iterator<Item = DType> {
    planes::tests::ALL.into_iter().chain([DType::F32, DType::Q2K, DType::Iq2Xxs, DType::Tq1_0])
}

struct Matrix {
    name: String,
    layout: Option<PlaneLayout>,
    /// Whether the device gets the file's bytes.
    raw: bool,
    bytes: Vec<u8>,
}

fn matrix(dtype: DType, rows: usize, k: usize, raw: bool) -> Matrix {
    let layout = PlaneLayout::of(dtype, rows, k);
    let mut state = rows as u64 + 77;
    let random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let bytes = std::iter::repeat_with(random).take(dtype.row_bytes(k).unwrap() * rows).collect();
    Matrix { name: format!("{dtype} {rows} {k} {raw}"), layout, raw: raw || layout.is_none(), bytes }
}

/// Small, as long as a piece or so, and several pieces long, with the file's bytes and without.
fn matrices() -> Vec<Matrix> {
    let mut all = Vec::new();
    for dtype in types() {
        all.push(matrix(dtype, 3, 768, false));
        all.push(matrix(dtype, 1, 1024, true));
    }
    for (i, dtype) in types().enumerate() {
        all.push(matrix(dtype, 190 + 7 * i, 1024, i % 2 == 0));
    }
    all
}

/// Places in a buffer, with the bytes that shall stand there.
type Wanted = Vec<(usize, Vec<u8>)>;

/// Items with their places in a buffer, how long that is, and what shall stand in it.
fn placed(matrices: &[Matrix]) -> (Vec<Item<'_>>, usize, Wanted) {
    let (mut items, mut at, mut wanted) = (Vec::new(), 0, Vec::new());
    for matrix in matrices {
        let mut item = Item { name: &matrix.name, bytes: &matrix.bytes, planes: None, raw: None };
        if let Some(layout) = matrix.layout {
            item.planes = Some((layout, at));
            let mut whole = vec![0x77; layout.bytes];
            let mut rest = &mut whole[..];
            let planes = layout.places(&(0..layout.units)).map(|place| {
                let (plane, after) = std::mem::take(&mut rest).split_at_mut(place.len());
                rest = after;
                plane
            });
            layout.pack(&matrix.bytes, planes);
            wanted.push((at, whole));
            at += layout.bytes;
        }
        if matrix.raw {
            item.raw = Some(at);
            wanted.push((at, matrix.bytes.clone()));
            at += matrix.bytes.len().next_multiple_of(ALIGNMENT);
        }
        items.push(item);
    }
    (items, at, wanted)
}

/// Has no bytes of its own; notes what is asked for and given back.
#[derive(Default)]
struct Notes {
    prefetched: AtomicU64,
    /// Items that were given back as a whole.
    released: Mutex<Vec<String>>,
}

impl WeightSource for Notes {
    fn bytes(&self, _: &str) -> Option<&[u8]> {
        None
    }

    fn release(&self, name: &str, part: Range<usize>) {
        if part == (0..usize::MAX) {
            self.released.lock().unwrap().push(name.to_string());
        }
    }

    fn prefetch(&self, _: &str, part: Range<usize>) {
        self.prefetched.fetch_add(part.len() as u64, Ordering::Relaxed);
    }
}

fn download(device: &Arc<Device>, buffer: &Buffer) -> Vec<u8> {
    let stream = Stream::new(device).unwrap();
    let mut all = Vec::new();
    while all.len() < buffer.len() {
        let range = all.len()..(all.len() + SMALL).min(buffer.len());
        let mut host = Pinned::new(device, range.len()).unwrap();
        stream.download(&mut host, 0, buffer, range).unwrap();
        all.extend_from_slice(host.as_slice().unwrap());
    }
    all
}

/// Uploads all types and sizes, and looks at the device's bytes.
fn upload_and_compare(device: &Arc<Device>) {
    let matrices = matrices();
    let (items, len, wanted) = placed(&matrices);
    let longest = items.iter().map(|item| item.pieces(SMALL).count()).max();
    assert!(longest >= Some(3), "something is longer than two pieces");
    let buffer = Buffer::new(device, len).unwrap();
    let source = Notes::default();
    let mut told = vec![0];
    upload_in_pieces(SMALL, &buffer, device, &items, &source, &mut |done| {
        told.push(done);
        true
    })
    .unwrap();
    let found = download(device, &buffer);
    for (at, bytes) in wanted {
        let item = items.iter().rfind(|i| i.planes.is_some_and(|(_, p)| p <= at) || i.raw.is_some_and(|r| r <= at));
        assert!(found[at..at + bytes.len()] == bytes, "{}, from byte {at} of {len} on", item.unwrap().name);
    }
    let total: usize = items.iter().map(|item| item.bytes.len()).sum();
    assert!(told.is_sorted() && told.last() == Some(&(total as u64)), "{told:?}");
    assert_eq!(source.prefetched.into_inner(), total as u64, "every piece once");
    let mut released = source.released.into_inner().unwrap();
    released.sort();
    let mut names: Vec<&str> = matrices.iter().map(|m| m.name.as_str()).collect();
    names.sort();
    assert_eq!(released, names);
}

/// Runs a test of this file in a process with variables; in that process it returns `true`.
fn in_a_process(test: &str, variables: &[(&str, String)]) -> bool {
    if std::env::var_os("UPLOAD_CHILD").is_some() {
        return true;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&format!("backends::hip::upload::tests::{test}"), "--exact", "--nocapture"]);
    let output = command.envs(variables.iter().cloned()).env("UPLOAD_CHILD", "1").output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("1 passed"), "{variables:?}: {told}\n{why}");
    false
}

#[test]
fn the_device_gets_what_was_packed_whole() {
    let Some(device) = device() else { return };
    upload_and_compare(&device);
}

#[test]
fn memory_is_filled_again_only_after_it_was_copied() {
    let Some(device) = device() else { return };
    if in_a_process("memory_is_filled_again_only_after_it_was_copied", &[("HIPHOST_LATE_COPIES", "1".to_string())]) {
        upload_and_compare(&device);
    }
}

#[test]
fn one_piece_of_pinned_memory_is_enough() {
    let Some(device) = device() else { return };
    let bytes = (staging_bytes(SMALL) * 3 / 2).to_string();
    if in_a_process("one_piece_of_pinned_memory_is_enough", &[("HIPHOST_PINNED", bytes)]) {
        upload_and_compare(&device);
    }
}

#[test]
fn no_pinned_memory_is_an_error() {
    let Some(device) = device() else { return };
    let bytes = (staging_bytes(SMALL) / 2).to_string();
    if !in_a_process("no_pinned_memory_is_an_error", &[("HIPHOST_PINNED", bytes)]) {
        return;
    }
    let matrices = [matrix(DType::Q4K, 100, 1024, false)];
    let (items, len, _) = placed(&matrices);
    let buffer = Buffer::new(&device, len).unwrap();
    let error = upload_in_pieces(SMALL, &buffer, &device, &items, &Notes::default(), &mut |_| true).unwrap_err();
    assert!(matches!(error, BackendError::OutOfMemory { bytes, .. } if bytes == staging_bytes(SMALL)), "{error}");
    assert!(error.to_string().contains("pinned memory of the host"), "{error}");
}

#[test]
fn a_device_that_is_lost_is_an_error() {
    let Some(device) = device() else { return };
    if std::env::var_os("UPLOAD_CHILD").is_none() {
        for at in ["1", "7", "40"] {
            in_a_process("a_device_that_is_lost_is_an_error", &[("HIPHOST_LOSE_AT", at.to_string())]);
        }
        return;
    }
    let before = device.memory().unwrap().0;
    let matrices = matrices();
    let (items, len, _) = placed(&matrices);
    let buffer = Buffer::new(&device, len).unwrap();
    let error = upload_in_pieces(SMALL, &buffer, &device, &items, &Notes::default(), &mut |_| true).unwrap_err();
    let BackendError::Device { call, reason, .. } = &error else { panic!("{error}") };
    assert!(call == "hipMemcpyHtoDAsync" || call.ends_with("Synchronize"), "{error}");
    assert!(reason.contains("must be started again"), "{error}");
    drop(buffer);
    assert_eq!(device.memory().unwrap().0, before);
}

#[test]
fn who_cancels_can_try_again() {
    let Some(device) = device() else { return };
    let matrices = matrices();
    let (items, len, _) = placed(&matrices);
    for after in [1, 5] {
        let buffer = Buffer::new(&device, len).unwrap();
        let mut calls = 0;
        let result = upload_in_pieces(SMALL, &buffer, &device, &items, &Notes::default(), &mut |_| {
            calls += 1;
            calls < after
        });
        assert!(matches!(result, Err(BackendError::Cancelled)), "{result:?}");
        assert_eq!(calls, after, "nobody is told anything after that");
    }
    upload_and_compare(&device);
}

/// In pieces as they are.
#[test]
fn a_matrix_that_is_longer_than_a_piece() {
    let Some(device) = device() else { return };
    let matrices = [matrix(DType::Q8_0, 2100, 1024, true)];
    let (items, len, wanted) = placed(&matrices);
    assert!(items[0].pieces(PIECE).count() > 2);
    let buffer = Buffer::new(&device, len).unwrap();
    upload(&buffer, &device, &items, &Notes::default(), &mut |_| true).unwrap();
    let found = download(&device, &buffer);
    assert!(wanted.iter().all(|(at, bytes)| found[*at..*at + bytes.len()] == bytes[..]));
}

#[test]
fn nothing_to_load_is_no_error() {
    let Some(device) = device() else { return };
    let buffer = Buffer::new(&device, 0).unwrap();
    upload(&buffer, &device, &[], &Notes::default(), &mut |_| panic!("there is nothing to tell")).unwrap();
    let empty = Item { name: "empty", bytes: &[], planes: None, raw: Some(0) };
    upload(&buffer, &device, &[empty], &Notes::default(), &mut |_| panic!("there is nothing to tell")).unwrap();
}
