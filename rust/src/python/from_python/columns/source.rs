//! What a caller gives as columns: a dict of arrays, or a table with Arrow's PyCapsule interface. All Python code that
//! it takes to get at the arrays runs here, before anything is read.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::error::{key_text, text_of_keys};
use crate::python::convert_error::{ConvertError, ConvertResult};
use crate::python::ffi::arrow_import::import;
use crate::python::ffi::shared_bytes::SharedBytes;
use crate::python::from_python::columns::array::{Array, Nulls, moment_microseconds};
use crate::python::from_python::columns::types::{Moment, Type, Unit, Zone, malformed};

/// Arrays of one type, one after another.
pub(crate) struct Chunks {
    /// The row with which each begins.
    pub(crate) starts: Vec<usize>,
    pub(crate) arrays: Vec<Array>,
    pub(crate) rows: usize,
}

impl Chunks {
    fn new(arrays: Vec<Array>) -> Chunks {
        let mut rows = 0;
        let mut starts = Vec::with_capacity(arrays.len());
        for array in &arrays {
            starts.push(rows);
            rows += array.length;
        }
        Chunks { starts, arrays, rows }
    }

    /// The array that holds a row, and the row's place in it.
    pub(crate) fn at(&self, row: usize) -> (&Array, usize) {
        if let [array] = &*self.arrays {
            return (array, row);
        }
        let chunk = self.starts.partition_point(|start| *start <= row) - 1;
        (&self.arrays[chunk], row - self.starts[chunk])
    }
}

/// The values of one column.
pub(crate) enum Values<'py> {
    Arrays(Type, Chunks),
    /// An exact list, and which items are null beside it.
    Objects(Bound<'py, PyList>, Nulls),
    /// `{}` in each row.
    Empty,
}

/// A column of values that are no dicts with keys.
pub(crate) struct Leaf<'py> {
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) values: Values<'py>,
    /// Numbers of the structs around it that may be null, the outermost first.
    pub(crate) within: Vec<usize>,
}

/// A struct that is null in some rows.
pub(crate) struct NullStruct {
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) chunks: Chunks,
}

pub(crate) struct Table<'py> {
    pub(crate) rows: usize,
    pub(crate) symbols: Values<'py>,
    pub(crate) leaves: Vec<Leaf<'py>>,
    pub(crate) structs: Vec<NullStruct>,
}

impl<'py> Table<'py> {
    pub(crate) fn of(data: &Bound<'py, PyAny>, symbol: &[u8]) -> ConvertResult<Table<'py>> {
        let py = data.py();
        let mut table = Table { rows: 0, symbols: Values::Empty, leaves: Vec::new(), structs: Vec::new() };
        if let Ok(columns) = data.cast::<PyDict>() {
            table.add_dict(columns, &[])?;
        } else if let Some(imported) = import(data)? {
            let Type::Struct(fields) = Type::of(&imported.field, 0)? else {
                return Err(ConvertError::usage(
                    "data: the Arrow data are one column; give a dict of columns",
                ));
            };
            let kind = Type::Struct(fields);
            let arrays = imported.arrays(&kind)?;
            if arrays.iter().any(|array| (0..array.length).any(|row| array.is_null(row))) {
                return Err(ConvertError::usage("data: a whole row is null"));
            }
            table.add(py, Vec::new(), Vec::new(), kind, arrays)?;
        } else {
            let class = data.get_type().name()?;
            return Err(ConvertError::unsupported(format!(
                "columns are a dict of arrays, or what has Arrow's PyCapsule interface, not {class}"
            )));
        }
        let shown = key_text(symbol);
        let found = table.leaves.iter().position(|leaf| matches!(&*leaf.keys, [key] if **key == *symbol));
        let Some(found) = found else {
            return Err(ConvertError::usage(format!("symbol: there is no column {shown} with the symbols")));
        };
        table.symbols = table.leaves.remove(found).values;
        table.rows = rows_of(&table.symbols);
        for leaf in &table.leaves {
            let rows = rows_of(&leaf.values);
            if rows != table.rows {
                let column = text_of_keys(&leaf.keys);
                let message = format!("{column}: {rows} rows, but there are {} symbols", table.rows);
                return Err(ConvertError::usage(message));
            }
        }
        Ok(table)
    }

    fn add_dict(&mut self, columns: &Bound<'py, PyDict>, above: &[Vec<u8>]) -> ConvertResult<()> {
        let py = columns.py();
        let parts = py.import("snapdelta._columns")?.call_method1("parts", (columns,))?;
        for part in parts.try_iter()? {
            let (name, kind, given): (Vec<u8>, String, Bound<'py, PyAny>) = part?.extract()?;
            let keys = [above, &[name]].concat();
            let below: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
            let added = match &*kind {
                "columns" => {
                    let columns = given.cast_into::<PyDict>().map_err(PyErr::from)?;
                    if above.len() + 1 >= crate::format::MAX_DEPTH {
                        Err(ConvertError::too_deep())
                    } else if columns.is_empty() {
                        Err(ConvertError::usage(format!("{}: a dict without columns", text_of_keys(&keys))))
                    } else {
                        // names the path itself
                        self.add_dict(&columns, &keys)?;
                        Ok(())
                    }
                }
                "arrow" => self.add_arrow(&given, &keys),
                "objects" => {
                    let (objects, mask): (Bound<'py, PyList>, Option<Bound<'py, PyAny>>) = given.extract()?;
                    let nulls = mask_of(mask)?;
                    self.push(keys.clone(), Vec::new(), Values::Objects(objects, nulls));
                    Ok(())
                }
                _ => self.add_array(&kind, &given, &keys),
            };
            added.map_err(|error| error.below_keys(&below))?;
        }
        Ok(())
    }

    fn add_arrow(&mut self, given: &Bound<'py, PyAny>, keys: &[Vec<u8>]) -> ConvertResult<()> {
        let Some(imported) = import(given)? else { return Err(malformed()) };
        let kind = Type::of(&imported.field, keys.len())?;
        let arrays = imported.arrays(&kind)?;
        self.add(given.py(), keys.to_vec(), Vec::new(), kind, arrays)
    }

    /// An array of numpy: what `_columns.py` says of its type, the buffer, and the mask if there is one.
    fn add_array(&mut self, kind: &str, given: &Bound<'py, PyAny>, keys: &[Vec<u8>]) -> ConvertResult<()> {
        type Given<'py> = (usize, i64, i64, Bound<'py, PyAny>, Option<Bound<'py, PyAny>>);
        let (width, multiply, divide, buffer, mask): Given<'py> = given.extract()?;
        let moment =
            |moment| Type::Moment { bytes: 8, unit: Unit { multiply, divide }, moment, has_nat: true };
        let kind = match kind {
            "bool" => Type::ByteBool,
            "int" => Type::Int { bytes: width, signed: true },
            "uint" => Type::Int { bytes: width, signed: false },
            "float" => Type::Float { bytes: width },
            "str" => Type::Utf32(width / 4),
            "bytes" => Type::PaddedBytes(width),
            "date" => moment(Moment::Date),
            "datetime" => moment(Moment::DateTime(Zone::None)),
            _ => moment(Moment::Duration),
        };
        let data = SharedBytes::of_buffer(&buffer)?;
        let length = data.bytes().len() / width.max(1);
        let nulls = mask_of(mask)?;
        let array = Array { first: 0, length, nulls, buffers: vec![data], children: Vec::new() };
        self.add(given.py(), keys.to_vec(), Vec::new(), kind, vec![array])
    }

    /// Arrays of one type; the fields of a struct become columns of their own.
    fn add(
        &mut self,
        py: Python<'py>,
        keys: Vec<Vec<u8>>,
        within: Vec<usize>,
        kind: Type,
        arrays: Vec<Array>,
    ) -> ConvertResult<()> {
        match kind {
            Type::Struct(fields) => self.add_fields(py, &keys, within, fields, arrays),
            Type::Moment { bytes, unit, moment: Moment::DateTime(Zone::Key(zone)), .. } => {
                let below: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
                let moments = in_zone(py, &zone, bytes, unit, &arrays);
                let moments = moments.map_err(|error| error.below_keys(&below))?;
                self.push(keys, within, Values::Objects(moments, Nulls::None));
                Ok(())
            }
            kind => {
                self.push(keys, within, Values::Arrays(kind, Chunks::new(arrays)));
                Ok(())
            }
        }
    }

    fn add_fields(
        &mut self,
        py: Python<'py>,
        keys: &[Vec<u8>],
        mut within: Vec<usize>,
        fields: Vec<(Vec<u8>, Type)>,
        mut arrays: Vec<Array>,
    ) -> ConvertResult<()> {
        let columns = fields.len();
        let mut children: Vec<Vec<Array>> = (0..columns).map(|_| Vec::with_capacity(arrays.len())).collect();
        for array in &mut arrays {
            for (column, child) in children.iter_mut().zip(array.children.drain(..)) {
                column.push(child);
            }
        }
        if arrays.iter().any(|array| !matches!(array.nulls, Nulls::None)) {
            within.push(self.structs.len());
            self.structs.push(NullStruct { keys: keys.to_vec(), chunks: Chunks::new(arrays) });
        }
        for ((name, field), arrays) in fields.into_iter().zip(children) {
            let keys = [keys, &[name]].concat();
            self.add(py, keys, within.clone(), field, arrays)?;
        }
        Ok(())
    }

    fn push(&mut self, keys: Vec<Vec<u8>>, within: Vec<usize>, values: Values<'py>) {
        self.leaves.push(Leaf { keys, values, within });
    }
}

fn mask_of(mask: Option<Bound<'_, PyAny>>) -> PyResult<Nulls> {
    mask.map_or(Ok(Nulls::None), |mask| SharedBytes::of_buffer(&mask).map(Nulls::Mask))
}

fn rows_of(values: &Values<'_>) -> usize {
    match values {
        Values::Arrays(_, chunks) => chunks.rows,
        Values::Objects(list, _) => list.len(),
        Values::Empty => 0,
    }
}

/// Timestamps as Python's datetimes: only Python has the time zone data.
fn in_zone<'py>(
    py: Python<'py>,
    zone: &str,
    bytes: usize,
    unit: Unit,
    arrays: &[Array],
) -> ConvertResult<Bound<'py, PyList>> {
    let mut moments: Vec<Option<i64>> = Vec::new();
    for array in arrays {
        for row in 0..array.length {
            moments.push(if array.is_null(row) {
                None
            } else {
                let found = moment_microseconds(array, bytes, unit, row);
                Some(found.ok_or_else(|| ConvertError::unsupported("a datetime outside Python's range"))?)
            });
        }
    }
    let made = py.import("snapdelta._columns")?.call_method1("in_zone", (zone, moments));
    let made = made.map_err(|error| ConvertError::raised(error, format!("time zone {zone}")))?;
    Ok(made.cast_into::<PyList>().map_err(PyErr::from)?)
}
