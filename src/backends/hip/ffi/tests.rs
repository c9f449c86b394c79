//! Without a device: finding libraries, and what is said where there is none. With devices: whatever a driver here has, and the
//! emulated ones.

use super::device::{arch_name, topology_node};
use super::library::{self, Search};
use super::module::elf_is_whole;
use super::runtime::{Platform, search};
use super::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

mod found {
    use super::*;

    #[test]
    fn a_library_that_is_not_there() {
        let search = Search {
            what: "the HIP runtime",
            names: &["libno-such-driver.so", "libno-such-driver.so.7"],
            folders: vec![PathBuf::from("/no-such-folder/lib")],
            install: "install it",
        };
        let error = search.open().err().unwrap();
        assert!(matches!(error, GpuError::LibraryMissing { .. }));
        assert_eq!(
            error.to_string(),
            "the HIP runtime is not installed (tried libno-such-driver.so, libno-such-driver.so.7, /no-such-folder/lib); install it"
        );
    }

    #[test]
    fn a_file_that_is_no_library() {
        let folder = tempfile::tempdir().unwrap();
        let name = "libno-such-driver.so";
        std::fs::write(folder.path().join(name), "not a library").unwrap();
        let folders = vec![folder.path().to_path_buf()];
        let error = Search { what: "x", names: &["libno-such-driver.so"], folders, install: "install it" }
            .open()
            .err()
            .unwrap();
        let GpuError::LibraryUnusable { library, .. } = &error else { panic!("{error}") };
        assert!(library.ends_with(name), "{error}");
        assert!(
            error.to_string().contains("cannot be used: ") && error.to_string().ends_with("; install it"),
            "{error}"
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_library_that_is_no_driver() {
        let search = |name| Search { what: "the C library", names: name, folders: Vec::new(), install: "" };
        for platform in [Platform::Hip, Platform::Cuda] {
            let libc = search(&["libc.so.6"]).open().unwrap();
            let error = Runtime::new(platform, libc).err().unwrap().to_string();
            let first = if platform == Platform::Hip { "hipInit" } else { "cuInit" };
            assert!(error.starts_with(&format!("libc.so.6 cannot be used: it has no {first}; ")), "{error}");
        }
    }

    /// Every platform is there or says what to do. Where Debian's HIP runtime is installed on a machine without a device, this is the test that it
    /// loads and that its answer is understood.
    #[test]
    fn every_platform_is_there_or_says_what_to_do() {
        let platforms = Runtime::open();
        assert_eq!(platforms.len(), 2);
        for platform in platforms {
            if let Err(e) = &platform {
                println!("{e}");
            }
            match platform {
                Ok(runtime) => assert!(runtime.device_count() > 0),
                Err(GpuError::LibraryMissing { tried, install, .. }) => {
                    assert!(tried.contains(".so") && install.contains("install"))
                }
                Err(GpuError::NoDevice { library, advice }) => {
                    assert!(library.contains("lib") && advice.contains("driver loaded"))
                }
                Err(e) => assert!(!e.to_string().is_empty()),
            }
        }
    }

    #[test]
    fn sonames() {
        let hip = search(Platform::Hip);
        assert!(hip.names.contains(&"libamdhip64.so.6") && hip.folders.iter().any(|f| f == Path::new("/opt/rocm/lib")));
    }
}

#[test]
fn names_of_instruction_sets() {
    let padded = |text: &str| [text.as_bytes(), &[0; 8]].concat();
    assert_eq!(arch_name(&padded("gfx90a:sramecc+:xnack-")).as_deref(), Some("gfx90a"));
    assert_eq!(arch_name(&padded("gfx1100")).as_deref(), Some("gfx1100"));
    assert_eq!(arch_name(&padded("host64")).as_deref(), Some("host64"));
    for other in ["", "gfx", "Radeon", "gfx11\u{1}", ":gfx90a"] {
        assert_eq!(arch_name(&padded(other)), None, "{other:?}");
    }
    assert_eq!(arch_name(b"gfx1100"), None, "without its end");
    assert_eq!(topology_node("simd_count 4\ngfx_target_version 90010\nvendor_id 4098\n").as_deref(), Some("gfx90a"));
    assert_eq!(topology_node("gfx_target_version 90402").as_deref(), Some("gfx942"));
    assert_eq!(topology_node("gfx_target_version 110501").as_deref(), Some("gfx1151"));
    assert_eq!(topology_node("gfx_target_version 0"), None);
    assert_eq!(topology_node("cpu_cores_count 16"), None);
}

#[test]
fn images_that_are_cut_off() {
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    if !own.starts_with(b"\x7fELF\x02\x01") {
        return;
    }
    assert!(elf_is_whole(&own));
    for len in [0, 4, 63, 64, own.len() / 2, own.len() - 1] {
        assert!(!elf_is_whole(&own[..len]), "{len} of {}", own.len());
    }
}

/// Every device of this machine, and the emulated ones with the kernels of the emulator's test.
fn devices() -> Vec<Arc<Device>> {
    let mut runtimes: Vec<Arc<Runtime>> = Runtime::open().into_iter().flatten().collect();
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels/emulator.hip");
    for path in emulator::build("hip-emulator-test", &[&kernels]).into_iter().flatten() {
        runtimes.push(Runtime::new(Platform::Hip, library::open_path(&path, "").unwrap()).unwrap());
    }
    let open = |r: &Arc<Runtime>| Device::open(r, 0).unwrap();
    runtimes.iter().map(open).collect()
}

fn filled(device: &Arc<Device>, bytes: impl Fn(usize) -> u8, len: usize) -> Pinned {
    let mut pinned = Pinned::new(device, len).unwrap();
    pinned.as_mut_slice().unwrap().iter_mut().enumerate().for_each(|(i, b)| *b = bytes(i));
    pinned
}

#[test]
fn what_a_device_is() {
    for device in devices() {
        let info = device.info();
        println!("{info:?}");
        assert!(!info.name.is_empty() && !info.driver.is_empty());
        assert!([32, 64].contains(&info.wave) && info.units > 0 && info.lds_per_block >= 48 << 10);
        assert!(info.free_memory <= info.total_memory && info.total_memory > 1 << 20);
        let known = ["gfx", "sm_", "host"].iter().any(|prefix| info.arch.starts_with(prefix));
        assert!(known, "{}", info.arch);
        assert_eq!(device.memory().unwrap().1, info.total_memory);
        let error = Device::open(&device.runtime, 1000).err().unwrap().to_string();
        assert!(error.contains("device 1000: there"), "{error}");
    }
}

#[test]
fn copies() {
    for device in devices() {
        let stream = Stream::new(&device).unwrap();
        let a = Buffer::new(&device, 1000).unwrap();
        assert!(a.ptr() != 0 && a.ptr().is_multiple_of(16) && a.len() == 1000);
        let mut host = filled(&device, |i| i as u8, 1000);
        stream.memset(&a, 0..1000, 7).unwrap();
        stream.upload(&a, 100, &host, 10..20).unwrap();
        // Waits for the upload that reads it.
        host.as_mut_slice().unwrap().fill(0);
        let mut back = Pinned::new(&device, 1000).unwrap();
        stream.download(&mut back, 0, &a, 0..500).unwrap();
        stream.download(&mut back, 500, &a, 90..120).unwrap();
        // Waits for the downloads.
        let back = back.as_slice().unwrap();
        let expected: Vec<u8> = [&[7; 10][..], &(10..20).collect::<Vec<u8>>(), &[7; 10]].concat();
        assert_eq!(&back[90..120], expected);
        assert_eq!(&back[500..530], expected);
        assert!(back[530..].iter().all(|&b| b == 0) && back[120..500].iter().all(|&b| b == 7));
        assert!(stream.work.is_done(4), "nothing is left to wait for");
    }
}

#[test]
fn copies_from_any_memory() {
    for device in devices() {
        let stream = Stream::new(&device).unwrap();
        // Three and a bit staging pieces.
        let len = (13 << 20) + 12345;
        let bytes: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
        let buffer = Buffer::new(&device, len + 8).unwrap();
        stream.upload_now(&buffer, 8, &bytes).unwrap();
        stream.upload_now(&buffer, 0, &[1; 8]).unwrap();
        stream.upload_now(&buffer, 3, &[]).unwrap();
        let mut back = Pinned::new(&device, len + 8).unwrap();
        stream.download(&mut back, 0, &buffer, 0..len + 8).unwrap();
        let back = back.as_slice().unwrap();
        assert!(back[..8] == [1; 8] && back[8..] == bytes);
    }
}

#[test]
fn what_is_refused() {
    for device in devices() {
        let stream = Stream::new(&device).unwrap();
        let (buffer, empty) = (Buffer::new(&device, 64).unwrap(), Buffer::new(&device, 0).unwrap());
        let mut host = Pinned::new(&device, 32).unwrap();
        let none = Pinned::new(&device, 0).unwrap();
        assert!(empty.ptr() == 0 && none.as_slice().unwrap().is_empty());
        stream.upload(&empty, 0, &none, 0..0).unwrap();
        let refused = [
            stream.memset(&buffer, 60..65, 0),
            stream.upload(&buffer, 40, &host, 0..32),
            stream.upload(&buffer, usize::MAX, &host, 0..32),
            stream.upload(&buffer, 0, &host, 0..33),
            stream.download(&mut host, 0, &buffer, 0..33),
            stream.upload_now(&buffer, 1, &[0; 64]),
            stream.end_capture().map(|_| ()),
        ];
        for result in refused {
            assert!(matches!(result, Err(GpuError::Refused { .. })), "{result:?}");
        }
        stream.synchronize().unwrap();
        let error = Buffer::new(&device, 1 << 50).err().unwrap();
        assert!(error.is_out_of_memory(), "{error}");
        let text = error.to_string();
        assert!(
            text.starts_with("allocating 1125899906842624 bytes: out of memory on ")
                && text.contains(" bytes are free"),
            "{text}"
        );
        // And it works on.
        assert_eq!(Buffer::new(&device, 64).unwrap().len(), 64);
    }
}

#[test]
fn events() {
    for device in devices() {
        let stream = Stream::new(&device).unwrap();
        let (mut start, mut end) = (Event::new(&device, true).unwrap(), Event::new(&device, true).unwrap());
        let buffer = Buffer::new(&device, 64 << 20).unwrap();
        stream.record(&mut start).unwrap();
        stream.memset(&buffer, 0..64 << 20, 3).unwrap();
        stream.record(&mut end).unwrap();
        let mut back = Pinned::new(&device, 16).unwrap();
        stream.download(&mut back, 0, &buffer, (64 << 20) - 16..64 << 20).unwrap();
        assert_eq!(back.as_slice().unwrap(), [3; 16]);
        end.synchronize().unwrap();
        let took = end.elapsed(&start).unwrap();
        assert!(took > Duration::ZERO && took < Duration::from_secs(10), "{took:?}");
    }
}

/// `reverse` for NVIDIA, in the driver's assembly, which it compiles itself; the emulator has its own.
const PTX: &str = include_str!("tests.ptx");

fn module(device: &Arc<Device>) -> Option<Arc<Module>> {
    match device.info() {
        info if info.arch.starts_with("host") => Some(Module::load(device, b"host:emulator").unwrap()),
        info if info.platform == Platform::Cuda => Some(Module::load(device, PTX.as_bytes()).unwrap()),
        _ => None,
    }
}

/// The bytes of parameters of eight bytes each.
fn args(values: &[u64]) -> (Vec<u8>, Vec<u16>) {
    (values.iter().flat_map(|v| v.to_ne_bytes()).collect(), (0..values.len() as u16).map(|i| i * 8).collect())
}

#[test]
fn kernels() {
    for device in devices() {
        let Some(module) = module(&device) else { continue };
        let stream = Stream::new(&device).unwrap();
        let reverse = module.function("reverse").unwrap();
        let x = Buffer::new(&device, 1024).unwrap();
        let y = Buffer::new(&device, 1024).unwrap();
        let host = filled(&device, |i| if i % 4 == 0 { (i / 4) as u8 } else { 0 }, 1024);
        stream.upload(&x, 0, &host, 0..1024).unwrap();
        let (bytes, offsets) = args(&[x.ptr(), y.ptr()]);
        stream.launch(&reverse, [0, 1, 1], 256, 1024, &bytes, &offsets, false).unwrap();
        for dependent in [false, true] {
            stream.memset(&y, 0..1024, 0xff).unwrap();
            stream.launch(&reverse, [1, 1, 1], 256, 1024, &bytes, &offsets, dependent).unwrap();
            let mut back = Pinned::new(&device, 1024).unwrap();
            stream.download(&mut back, 0, &y, 0..1024).unwrap();
            let back: &[i32] = bytemuck::cast_slice(back.as_slice().unwrap());
            assert!((0..256).all(|i| back[i] == 255 - i as i32), "{back:?}");
        }
        // All LDS that a block may have.
        let most = device.info().lds_per_block as u32;
        stream.launch(&reverse, [1, 1, 1], 256, most, &bytes, &offsets, false).unwrap();
        stream.synchronize().unwrap();
        let error = stream.launch(&reverse, [1, 1, 1], 256, most + 1, &bytes, &offsets, false).err().unwrap();
        assert!(error.to_string().contains("giving reverse"), "{error}");
        let error = stream.launch(&reverse, [1, 1, 1], 256, 0, &bytes[..8], &offsets, false).err().unwrap();
        assert!(error.to_string().contains("at byte 8 is not within 8"), "{error}");
        let error = stream.launch(&reverse, [1, 1, 1], 4096, 1024, &bytes, &offsets, false).err().unwrap();
        assert!(matches!(error, GpuError::Call { .. }), "{error}");
        assert!(error.to_string().contains("launching reverse over [1, 1, 1] blocks of 4096 threads"), "{error}");
        let error = module.function("no_such_kernel").err().unwrap().to_string();
        assert!(error.contains("no_such_kernel") && error.contains("GetFunction answered 500"), "{error}");
    }
}

#[test]
fn images_that_no_device_takes() {
    for device in devices() {
        let error = Module::load(&device, b"host:no-such-file").err().unwrap();
        assert!(matches!(error, GpuError::Call { .. }), "{error}");
        assert!(error.to_string().contains("loading a kernel image of 17 bytes on"), "{error}");
        let error = Module::load(&device, b"\x7fELF\x02\x01").err().unwrap();
        assert!(matches!(error, GpuError::Refused { .. }), "{error}");
    }
}

#[test]
fn graphs() {
    for device in devices() {
        let Some(module) = module(&device) else { continue };
        let stream = Stream::new(&device).unwrap();
        let reverse = module.function("reverse").unwrap();
        let (x, y) = (Buffer::new(&device, 1024).unwrap(), Buffer::new(&device, 1024).unwrap());
        let mut input = filled(&device, |_| 0, 1024);
        let mut output = Pinned::new(&device, 1024).unwrap();
        stream.begin_capture().unwrap();
        assert!(stream.begin_capture().is_err() && stream.synchronize().is_err());
        stream.upload(&x, 0, &input, 0..1024).unwrap();
        let (there, back) = (args(&[x.ptr(), y.ptr()]), args(&[y.ptr(), x.ptr()]));
        for (bytes, offsets) in [&there, &back, &there] {
            stream.launch(&reverse, [1, 1, 1], 256, 1024, bytes, offsets, true).unwrap();
        }
        stream.download(&mut output, 0, &y, 0..1024).unwrap();
        // Memory may be freed meanwhile, and what is captured does not run.
        drop(Buffer::new(&device, 4096).unwrap());
        assert!(input.as_mut_slice().is_ok());
        let graph = stream.end_capture().unwrap();
        drop((reverse, module)); // the graph holds them
        assert_eq!(output.as_slice().unwrap(), [0; 1024]);
        let error = stream.replay_with(&graph, &mut [&mut input]).err().unwrap().to_string();
        assert!(error.contains("was not handed over"), "{error}");
        for round in 0..3u32 {
            let values: Vec<u32> = (0..256).map(|i| i + 1000 * round).collect();
            input.as_mut_slice().unwrap().copy_from_slice(bytemuck::cast_slice(&values));
            stream.replay_with(&graph, &mut [&mut input, &mut output]).unwrap();
            let got: &[u32] = bytemuck::cast_slice(output.as_slice().unwrap());
            assert!(got.iter().rev().eq(&values), "{got:?}");
        }
        // A stream that is dropped while it is captured.
        let other = Stream::new(&device).unwrap();
        other.begin_capture().unwrap();
        other.memset(&x, 0..4, 0).unwrap();
        drop(other);
        stream.synchronize().unwrap();
    }
}

#[test]
fn threads() {
    for device in devices() {
        let stream = Stream::new(&device).unwrap();
        let buffer = Buffer::new(&device, 4 << 10).unwrap();
        std::thread::scope(|scope| {
            for t in 0..4usize {
                let (device, stream, buffer) = (&device, &stream, &buffer);
                scope.spawn(move || {
                    let part = t << 10..(t + 1) << 10;
                    for round in 0..50u8 {
                        let mut host = filled(device, |_| round ^ t as u8, 1 << 10);
                        stream.upload(buffer, part.start, &host, 0..1 << 10).unwrap();
                        host.as_mut_slice().unwrap().fill(0xee);
                        stream.download(&mut host, 0, buffer, part.clone()).unwrap();
                        assert!(host.as_slice().unwrap().iter().all(|&b| b == round ^ t as u8));
                    }
                });
            }
        });
    }
}

/// `out[t][row] = Σ w[row][k] x[t][k]`, where the platform's matrix library is installed.
#[test]
fn products() {
    use half::f16;
    for device in devices() {
        let stream = Stream::new(&device).unwrap();
        let mut blas = match Blas::open(&stream) {
            Ok(blas) => blas,
            Err(GpuError::LibraryMissing { tried, install, .. }) => {
                println!("{}: no matrix library ({tried}): {install}", device.info().name);
                continue;
            }
            Err(e) => panic!("{e}"),
        };
        println!("{}: {}", device.info().name, blas.library);
        let (rows, tokens, k, w_stride, x_stride, out_stride) = (48, 10, 64, 72, 80, 56);
        let w: Vec<f16> = (0..rows * w_stride).map(|i| f16::from_f32(((i * 7) % 11) as f32 - 5.0)).collect();
        let x: Vec<f16> = (0..tokens * x_stride).map(|i| f16::from_f32(((i * 5) % 13) as f32 - 6.0)).collect();
        let bits = |values: &[f16]| values.iter().flat_map(|v| v.to_bits().to_ne_bytes()).collect::<Vec<u8>>();
        let bytes = [w.len() * 2, x.len() * 2, tokens * out_stride * 4];
        let [wb, xb, ob] = bytes.map(|n| Buffer::new(&device, n).unwrap());
        stream.upload_now(&wb, 0, &bits(&w)).unwrap();
        stream.upload_now(&xb, 0, &bits(&x)).unwrap();
        stream.memset(&ob, 0..ob.len(), 0).unwrap();
        let mut gemm = GemmF16 {
            w: wb.ptr(),
            w_stride,
            x: xb.ptr(),
            x_stride,
            out: ob.ptr(),
            out_stride,
            rows,
            tokens,
            k,
            accumulate: false,
        };
        blas.gemm_f16(&stream, &gemm).unwrap();
        gemm.accumulate = true;
        // Once more, as a part of a graph.
        stream.begin_capture().unwrap();
        blas.gemm_f16(&stream, &gemm).unwrap();
        let graph = stream.end_capture().unwrap();
        stream.replay(&graph).unwrap();
        let mut out = Pinned::new(&device, ob.len()).unwrap();
        stream.download(&mut out, 0, &ob, 0..ob.len()).unwrap();
        let out: &[f32] = bytemuck::cast_slice(out.as_slice().unwrap());
        for t in 0..tokens {
            for row in 0..rows {
                let sum: f32 = (0..k).map(|i| w[row * w_stride + i].to_f32() * x[t * x_stride + i].to_f32()).sum();
                assert_eq!(out[t * out_stride + row], 2.0 * sum, "token {t}, row {row}");
            }
            assert!(out[t * out_stride + rows..(t + 1) * out_stride].iter().all(|&v| v == 0.0));
        }
        gemm.out_stride = rows - 1;
        assert!(blas.gemm_f16(&stream, &gemm).is_err());
    }
}
