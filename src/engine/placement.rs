//! Placement: which layers of a model run on what. A device takes the last layers and the output, the CPU the ones before.

use super::{EngineError, KvType, SessionOptions};
use crate::backends::cpu::CpuBackend;
#[cfg(feature = "hip")]
use crate::backends::hip::HipBackend;
use crate::backends::{Backend, BackendError, DeviceInfo};
use crate::graph::passes::PassOptions;
use crate::graph::plan::{MemoryBill, Plan, Target, plan};
use crate::models::gguf::Header;
use crate::models::{Config, GraphOptions, build_part};
use crate::tensor::Bounds;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

/// Where a model shall run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU that can be used, with as many layers as its memory holds; without one the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU with this number, or any; an error if it cannot be used.
    Gpu(Option<usize>),
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Gpu(None) => f.write_str("gpu"),
            DeviceChoice::Gpu(Some(n)) => write!(f, "gpu:{n}"),
        }
    }
}

/// A text that names no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a device is auto, cpu, gpu or gpu:N")]
pub struct DeviceNameError;

impl FromStr for DeviceChoice {
    type Err = DeviceNameError;

    fn from_str(text: &str) -> Result<DeviceChoice, DeviceNameError> {
        match text {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "gpu" => Ok(DeviceChoice::Gpu(None)),
            _ => match text.strip_prefix("gpu:").map(str::parse) {
                Some(Ok(n)) => Ok(DeviceChoice::Gpu(Some(n))),
                _ => Err(DeviceNameError),
            },
        }
    }
}

/// Layers of a model and what runs them. The first layers come with the embedding, the last ones with the output.
#[derive(Clone)]
pub struct Stage {
    /// What runs them.
    pub backend: Arc<dyn Backend>,
    /// Which.
    pub layers: Range<usize>,
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} on {}", self.layers, self.backend.device().id)
    }
}

/// What runs where, as users are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Devices with their layers, in the order in which they run.
    pub stages: Vec<(DeviceInfo, Range<usize>)>,
    /// Why a GPU that one could expect to be used is not, or not for all layers.
    pub why: Option<String>,
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (device, layers)) in self.stages.iter().enumerate() {
            match self.stages.len() {
                1 => write!(f, "all layers run on {}", device.id)?,
                n => {
                    let output = if i + 1 == n { " and the output" } else { "" };
                    let (comma, on) = if i == 0 { ("", "run on") } else { (", ", "on") };
                    write!(f, "{comma}layers {}..{}{output} {on} {}", layers.start, layers.end, device.id)?;
                }
            }
            match device.threads {
                0 => write!(f, " ({})", device.name)?,
                1 => f.write_str(" (1 thread)")?,
                n => write!(f, " ({n} threads)")?,
            }
        }
        match &self.why {
            Some(why) => write!(f, "; {why}"),
            None => Ok(()),
        }
    }
}

/// The plan of some layers.
pub(super) fn plan_layers(
    header: &Header,
    layers: &Range<usize>,
    bounds: Bounds,
    kv_type: KvType,
    target: &dyn Target,
    passes: &PassOptions,
) -> Result<Plan, EngineError> {
    let graph = build_part(header, &GraphOptions { bounds, kv_type: kv_type.dtype(header) }, layers.clone())?;
    Ok(plan(&graph, bounds, target, passes)?)
}

/// The memory that a session takes where some layers run.
///
/// # Errors
/// If the file holds no model, or these layers cannot be planned.
pub fn layers_bill(
    header: &Header,
    layers: &Range<usize>,
    session: &SessionOptions,
    target: &dyn Target,
    passes: &PassOptions,
) -> Result<MemoryBill, EngineError> {
    let (context, chunk) = session.sizes(&Config::read(header)?)?;
    let of = |t: usize| {
        let bounds = Bounds { t, s: context, r: 1 };
        plan_layers(header, layers, bounds, session.kv_type, target, passes).map(|plan| plan.bill)
    };
    Ok(MemoryBill::of_session(&of(chunk)?, &of(1)?))
}

/// The largest number of last layers whose memory, by `bill`, is at most `budget`.
///
/// # Errors
/// Those of `bill`.
pub fn layers_that_fit<E>(
    n_layer: usize,
    budget: u64,
    bill: impl Fn(Range<usize>) -> Result<MemoryBill, E>,
) -> Result<usize, E> {
    let fits = |n: usize| bill(n_layer - n..n_layer).map(|bill| bill.allocated() as u64 <= budget);
    if fits(n_layer)? {
        return Ok(n_layer);
    }
    let (mut good, mut bad) = (0, n_layer);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle)? { good = middle } else { bad = middle }
    }
    Ok(good)
}

/// What [`place`] decides by.
pub(super) struct Wanted<'a> {
    pub device: DeviceChoice,
    pub gpu_layers: Option<usize>,
    pub threads: usize,
    pub session: &'a SessionOptions,
    pub passes: &'a PassOptions,
    pub no_repack: bool,
}

impl Wanted<'_> {
    /// Whether a GPU is used only if there is one.
    pub(super) fn is_optional(&self) -> bool {
        self.device == DeviceChoice::Auto && self.gpu_layers.is_none()
    }
}

/// Opens what a model shall run on and decides which layers go where; with why a GPU has not all of them.
pub(super) fn place(
    header: &Header,
    config: &Config,
    wanted: &Wanted<'_>,
    open_gpu: &dyn Fn(Option<usize>) -> Result<Arc<dyn Backend>, BackendError>,
) -> Result<(Vec<Stage>, Option<String>), EngineError> {
    let n_layer = config.n_layer;
    let on_cpu = |layers: Range<usize>| -> Result<Stage, EngineError> {
        Ok(Stage { backend: cpu(wanted.threads, wanted.no_repack)?, layers })
    };
    let number = match (wanted.device, wanted.gpu_layers) {
        (DeviceChoice::Cpu, Some(1..)) => {
            let reason = "the device is the CPU: --device gpu, or no layers for a GPU".to_string();
            return Err(EngineError::Option { name: "gpu_layers", reason });
        }
        (DeviceChoice::Cpu, _) | (_, Some(0)) => return Ok((vec![on_cpu(0..n_layer)?], None)),
        (DeviceChoice::Gpu(number), _) => number,
        (DeviceChoice::Auto, _) => None,
    };
    let optional = wanted.is_optional();
    let gpu = match open_gpu(number) {
        Ok(gpu) => gpu,
        Err(error) if optional => {
            let expected = !matches!(error, BackendError::NoDevice { present: false, .. });
            return Ok((vec![on_cpu(0..n_layer)?], expected.then(|| format!("no GPU is used: {error}"))));
        }
        Err(error) => return Err(error.into()),
    };
    let (n, why) = match wanted.gpu_layers {
        Some(n) => (n.min(n_layer), None),
        None => fitting(header, n_layer, &*gpu, wanted)?,
    };
    if n == 0 && !optional {
        let one = layers_bill(header, &(n_layer - 1..n_layer), wanted.session, gpu.target(), wanted.passes)?;
        let purpose = format!("one layer and the output on {}", gpu.device().id);
        return Err(BackendError::OutOfMemory { purpose, bytes: one.allocated() }.into());
    }
    let mut stages = Vec::new();
    if n < n_layer {
        stages.push(on_cpu(0..n_layer - n)?);
    }
    if n > 0 {
        stages.push(Stage { backend: gpu, layers: n_layer - n..n_layer });
    }
    Ok((stages, why))
}

/// The GPU with this number, or any.
#[cfg(feature = "hip")]
pub(super) fn open_gpu(number: Option<usize>) -> Result<Arc<dyn Backend>, BackendError> {
    Ok(Arc::new(HipBackend::open(number)?))
}

/// There is none in a build without GPUs.
#[cfg(not(feature = "hip"))]
pub(super) fn open_gpu(_: Option<usize>) -> Result<Arc<dyn Backend>, BackendError> {
    let reason = "this build cannot use GPUs; build with the feature \"hip\"".to_string();
    Err(BackendError::NoDevice { reason, present: false })
}

fn cpu(threads: usize, no_repack: bool) -> Result<Arc<dyn Backend>, BackendError> {
    let backend = CpuBackend::new(threads)?;
    Ok(Arc::new(if no_repack { backend.without_repack() } else { backend }))
}

/// One device for all; the CPU for `Auto`.
pub(super) fn open_device(device: DeviceChoice, no_repack: bool) -> Result<Arc<dyn Backend>, BackendError> {
    match device {
        DeviceChoice::Gpu(number) => open_gpu(number),
        DeviceChoice::Auto | DeviceChoice::Cpu => cpu(0, no_repack),
    }
}

/// How many of the last layers the device's free memory holds, and why not all.
fn fitting(
    header: &Header,
    n_layer: usize,
    gpu: &dyn Backend,
    wanted: &Wanted<'_>,
) -> Result<(usize, Option<String>), EngineError> {
    let Some(memory) = gpu.memory() else { return Ok((n_layer, None)) };
    // What the driver takes for itself, and for code.
    let budget = memory.free - memory.free / 32;
    let bill = |layers: Range<usize>| layers_bill(header, &layers, wanted.session, gpu.target(), wanted.passes);
    let n = layers_that_fit(n_layer, budget, bill)?;
    let needed = if n == n_layer { return Ok((n, None)) } else { bill(0..n_layer)?.allocated() as u64 };
    let (needed, free) = (mebibytes(needed), mebibytes(memory.free));
    Ok((n, Some(format!("the whole model needs {needed}, {} has {free} free", gpu.device().id))))
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::null::NullBackend;
    use crate::backends::{DeviceMemory, LoadedWeights, Program, States, WeightSource};
    use crate::graph::plan::WeightSlot;
    use crate::models::synthetic::Synthetic;

    /// A device that has some bytes free.
    struct Device(NullBackend, Option<u64>);

    impl Backend for Device {
        fn device(&self) -> DeviceInfo {
            DeviceInfo { id: "gpu:0".to_string(), name: "a device".to_string(), threads: 0 }
        }

        fn memory(&self) -> Option<DeviceMemory> {
            self.1.map(|free| DeviceMemory { free, total: free })
        }

        fn target(&self) -> &dyn Target {
            self.0.target()
        }

        fn load(
            &self,
            weights: &[WeightSlot],
            source: Arc<dyn WeightSource>,
            progress: &mut dyn FnMut(u64) -> bool,
        ) -> Result<LoadedWeights, BackendError> {
            self.0.load(weights, source, progress)
        }

        fn states(&self, plan: &Plan) -> Result<Box<dyn States>, BackendError> {
            self.0.states(plan)
        }

        fn lower(&self, plan: &Plan, weights: &LoadedWeights) -> Result<Box<dyn Program>, BackendError> {
            self.0.lower(plan, weights)
        }
    }

    /// Where the layers of a tiny model go, as users are told, if a GPU has `free` bytes, or there is none and `present` a driver.
    fn placed(
        device: DeviceChoice,
        gpu_layers: Option<usize>,
        free: Result<Option<u64>, bool>,
    ) -> Result<String, EngineError> {
        let data = Synthetic::new("tiny:Q8_0").unwrap();
        let config = Config::read(data.header()).unwrap();
        let (session, passes) = (SessionOptions { context: 256, ..Default::default() }, PassOptions::default());
        let wanted = Wanted { device, gpu_layers, threads: 1, session: &session, passes: &passes, no_repack: false };
        let open = |_: Option<usize>| match free {
            Ok(free) => Ok(Arc::new(Device(NullBackend::default(), free)) as Arc<dyn Backend>),
            Err(present) => Err(BackendError::NoDevice { reason: "nothing there".to_string(), present }),
        };
        let (stages, why) = place(data.header(), &config, &wanted, &open)?;
        let stages = stages.iter().map(|s| (s.backend.device(), s.layers.clone())).collect();
        Ok(Placement { stages, why }.to_string())
    }

    #[test]
    fn a_gpu_takes_what_fits_and_its_absence_is_told() {
        use DeviceChoice::{Auto, Cpu, Gpu};
        let all = "all layers run on gpu:0 (a device)";
        let cpu = "all layers run on cpu (1 thread)";
        let split = "layers 0..3 run on cpu (1 thread), layers 3..4 and the output on gpu:0 (a device)";
        let ok = |device, layers, free| placed(device, layers, free).unwrap();
        for device in [Auto, Gpu(None), Gpu(Some(0))] {
            assert_eq!(ok(device, None, Ok(None)), all);
            assert_eq!(ok(device, None, Ok(Some(1 << 30))), all);
            assert_eq!(ok(device, Some(99), Ok(Some(0))), all, "as was asked for");
            assert_eq!(ok(device, Some(1), Ok(None)), split);
            let some = ok(device, None, Ok(Some(3 << 20)));
            assert!(some.starts_with("layers 0..") && some.contains("; the whole model needs"), "{some}");
        }
        assert_eq!(ok(Cpu, None, Ok(None)), cpu);
        assert_eq!(ok(Gpu(None), Some(0), Ok(None)), cpu);
        assert_eq!(ok(Auto, None, Err(false)), cpu);
        assert_eq!(ok(Auto, None, Err(true)), format!("{cpu}; no GPU is used: nothing there"));
        let little = ok(Auto, None, Ok(Some(1000)));
        assert!(little.starts_with(cpu) && little.contains("gpu:0 has 0 MiB free"), "{little}");
        for device in [Gpu(None), Gpu(Some(7))] {
            assert!(matches!(
                placed(device, None, Err(false)),
                Err(EngineError::Backend(BackendError::NoDevice { .. }))
            ));
            let error = placed(device, None, Ok(Some(1000))).unwrap_err().to_string();
            assert!(error.contains("one layer and the output on gpu:0"), "{error}");
        }
        assert!(placed(Auto, Some(2), Err(false)).is_err(), "layers for a GPU that is not there");
    }

    #[test]
    fn devices_have_names() {
        for choice in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Gpu(None), DeviceChoice::Gpu(Some(3))] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        for bad in ["", "GPU", "gpu:", "gpu:-1", "gpu:x", "gpu0", "cuda"] {
            assert_eq!(bad.parse::<DeviceChoice>(), Err(DeviceNameError), "{bad}");
        }
    }

    #[test]
    fn as_many_layers_as_fit() {
        // 3 for the output, 10 a layer, 5 for the embedding.
        let bill = |layers: Range<usize>| {
            let weights = 3 + 10 * layers.len() + if layers.start == 0 { 5 } else { 0 };
            Ok::<_, EngineError>(MemoryBill { weights, ..MemoryBill::default() })
        };
        for (budget, n) in [(0, 0), (12, 0), (13, 1), (22, 1), (23, 2), (33, 3), (43, 3), (47, 3), (48, 4), (999, 4)] {
            assert_eq!(layers_that_fit(4, budget, bill).unwrap(), n, "{budget}");
        }
    }
}
