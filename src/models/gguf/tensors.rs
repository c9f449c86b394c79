//! [`TensorInfo`]: name, type, shape and place of a tensor, and the parser of the list of them.

use super::error::{GgufError, Quoted};
use super::metadata::{NotUnique, grow, sorted_index};
use super::reader::{Cursor, check_name};
use super::value::owned;
use crate::tensor::DType;

/// The longest tensor name in bytes: ggml keeps names in 64 bytes with a NUL at the end.
pub(super) const MAX_NAME: usize = 63;
/// The most dimensions a tensor may have.
pub(super) const MAX_DIMS: usize = 4;
/// Bytes of the smallest entry: length of an empty name, number of dimensions, type, offset.
const MIN_ENTRY: u64 = 8 + 4 + 4 + 8;

/// Where a tensor lies in the file and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// At most 63 bytes, unique in the file.
    pub name: String,
    /// The type of the elements.
    pub dtype: DType,
    /// ggml's `ne`: the length of a row first. At most four entries, none for a scalar; entries may be 0.
    pub shape: Vec<u64>,
    /// Bytes from the beginning of the data section.
    pub offset: u64,
    /// Bytes of the data, without padding.
    pub bytes: u64,
}

impl TensorInfo {
    /// The number of elements: the product of the shape, 1 for a scalar.
    pub fn elements(&self) -> u64 {
        if self.shape.contains(&0) { 0 } else { self.shape.iter().product() }
    }

    /// Bytes of a tensor of this type and shape.
    ///
    /// # Errors
    /// What is wrong with the shape, as the end of a sentence about the tensor.
    pub(super) fn size(dtype: DType, shape: &[u64]) -> Result<u64, String> {
        if shape.len() > MAX_DIMS {
            return Err(format!("has {} dimensions, at most {MAX_DIMS} are allowed", shape.len()));
        }
        // ggml counts elements in an i64. Dimensions of length 0 are legal and make the tensor empty; the other
        // dimensions must have a product all the same, so that no later product of some of them can overflow.
        let product = shape.iter().filter(|&&n| n != 0).try_fold(1u64, |product, &n| product.checked_mul(n));
        let Some(elements) = product.filter(|&n| n < i64::MAX as u64) else {
            return Err(format!("has the shape {shape:?}, whose number of elements does not fit 63 bits"));
        };
        let row = shape.first().copied().unwrap_or(1);
        let block = dtype.block_len() as u64;
        if !row.is_multiple_of(block) {
            return Err(format!("has rows of {row} elements, which {dtype} cannot store: its blocks have {block}"));
        }
        if shape.contains(&0) {
            return Ok(0);
        }
        let bytes = (elements / block).checked_mul(dtype.block_bytes() as u64);
        bytes.ok_or_else(|| format!("has the shape {shape:?}, whose size in bytes does not fit 64 bits"))
    }
}

/// The list of tensors of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tensors {
    pub(super) infos: Vec<TensorInfo>,
    /// Positions in `infos`, sorted by name.
    by_name: Vec<u32>,
    /// Bytes of the data section, with the padding after every tensor.
    pub(super) data_bytes: u64,
}

impl Tensors {
    /// Reads `count` entries and checks that their data lie one after the other, each padded to `alignment`.
    pub(super) fn parse(cursor: &mut Cursor<'_>, count: u64, alignment: u32) -> Result<Tensors, GgufError> {
        cursor.check_count(count, MIN_ENTRY, || "tensors".into())?;
        let mut infos = Vec::new();
        let mut data_bytes = 0;
        for index in 0..count {
            let entry = cursor.offset();
            let info = parse_info(cursor, index)?;
            let refuse = |problem| GgufError::Tensor { tensor: Quoted(&info.name).to_string(), offset: entry, problem };
            check_offset(&info, data_bytes, alignment).map_err(refuse)?;
            data_bytes = end(&info, alignment).ok_or_else(|| {
                refuse(format!("its {} bytes at offset {} end beyond 64 bits", info.bytes, info.offset))
            })?;
            grow(&mut infos).map_err(|_| GgufError::OutOfMemory { what: "the tensor list".into(), bytes: entry })?;
            infos.push(info);
        }
        Tensors::new(infos, data_bytes)
    }

    pub(super) fn new(infos: Vec<TensorInfo>, data_bytes: u64) -> Result<Tensors, GgufError> {
        match sorted_index(infos.len(), |i| infos[i].name.as_str()) {
            Ok(by_name) => Ok(Tensors { infos, by_name, data_bytes }),
            Err(NotUnique::Twice(first, second)) => {
                Err(GgufError::DuplicateTensor { name: infos[first].name.clone(), first, second })
            }
            Err(NotUnique::NoRoom(bytes)) => Err(GgufError::OutOfMemory { what: "the index of tensors".into(), bytes }),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&TensorInfo> {
        let found = self.by_name.binary_search_by(|&i| self.infos[i as usize].name.as_str().cmp(name)).ok()?;
        Some(&self.infos[self.by_name[found] as usize])
    }
}

/// Where the next tensor begins: behind this one and its padding. `None` if that does not fit 64 bits.
pub(super) fn end(info: &TensorInfo, alignment: u32) -> Option<u64> {
    info.offset.checked_add(info.bytes)?.checked_next_multiple_of(alignment.into())
}

fn parse_info(cursor: &mut Cursor<'_>, index: u64) -> Result<TensorInfo, GgufError> {
    let offset = cursor.offset();
    let name = cursor.text().map_err(|short| short.reading(format!("the name of tensor number {index}")))?;
    let name = check_name(name, MAX_NAME).map_err(|problem| GgufError::Tensor {
        tensor: format!("number {index}"),
        offset,
        problem: format!("its name {problem}"),
    })?;
    let quoted = || Quoted(name).to_string();
    let refuse = |problem| GgufError::Tensor { tensor: quoted(), offset, problem };
    let part = |part: &str| format!("the {part} of tensor {}", quoted());

    let dims: u32 = cursor.number().map_err(|short| short.reading(part("number of dimensions")))?;
    if dims as usize > MAX_DIMS {
        return Err(refuse(format!("has {dims} dimensions, at most {MAX_DIMS} are allowed")));
    }
    let shape: Vec<u64> = cursor.numbers(dims.into(), || part("shape"))?;
    let id: u32 = cursor.number().map_err(|short| short.reading(part("type")))?;
    let dtype = DType::from_ggml_id(id).ok_or_else(|| refuse(unknown_type(id)))?;
    let bytes = TensorInfo::size(dtype, &shape).map_err(refuse)?;
    let place = cursor.number().map_err(|short| short.reading(part("offset")))?;
    Ok(TensorInfo { name: owned(name.as_bytes(), &quoted)?, dtype, shape, offset: place, bytes })
}

fn unknown_type(id: u32) -> String {
    match id {
        4 | 5 | 31..=33 | 36..=38 => format!("has type {id}, which ggml no longer supports; get a newer conversion"),
        _ => format!("has the unknown type {id}; the file is damaged or written by a newer program"),
    }
}

fn check_offset(info: &TensorInfo, expected: u64, alignment: u32) -> Result<(), String> {
    let offset = info.offset;
    if offset == expected {
        Ok(())
    } else if !offset.is_multiple_of(alignment.into()) {
        Err(format!("its offset {offset} is no multiple of the alignment {alignment}"))
    } else if offset < expected {
        Err(format!("its offset {offset} overlaps the tensor before it; {expected} is expected"))
    } else {
        Err(format!("its offset {offset} leaves a gap; {expected} is expected"))
    }
}
