//! State -> columns: the tree of its paths, the type of each, and their arrays.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::collections::HashMap;

use crate::error::text_of_keys;
use crate::format::budget::Budget;
use crate::format::datetime::{self, Zone};
use crate::format::value::{Payload, tag};
use crate::python::convert_error::{ConvertError, ConvertResult};
use crate::python::errors;
use crate::python::to_python::build::{Builder, DictPlace, ObjectCache};
use crate::python::to_python::column_arrays::{Column, Field, column, struct_column, text_column};
use crate::python::to_python::column_types::{ColumnType, FIELD, Seen, Value};
use crate::state::schema::{PathId, ROOT};
use crate::state::table::{Cell, Table};

/// The column of the symbols.
const SYMBOL: &str = "_symbol";
/// The column of records that are a single value.
const SINGLE: &str = "value";

/// In place of the cell that a row has not.
const MISSING: Cell = Cell { tag: tag::CELL_TAGS, word: 0 };

/// One path of the records, with those below it.
#[derive(Default)]
struct Node {
    path: PathId,
    /// Some record has a leaf here.
    is_leaf: bool,
    /// Nodes one key below, in the order in which they were met.
    children: Vec<usize>,
}

/// The columns of a state: its paths as a tree, and what each holds.
pub(crate) struct Columns<'t> {
    table: &'t Table,
    /// The first is the record itself.
    nodes: Vec<Node>,
    by_path: HashMap<PathId, usize>,
    seen: Vec<Seen>,
    /// By shape: its dicts by path.
    dicts: Vec<HashMap<PathId, DictPlace>>,
}

impl<'t> Columns<'t> {
    /// Looks at all cells.
    pub(crate) fn of(table: &'t Table, budget: &mut Budget) -> ConvertResult<Columns<'t>> {
        let mut columns = Columns {
            table,
            nodes: vec![Node::default()],
            by_path: HashMap::from([(ROOT, 0)]),
            seen: Vec::new(),
            dicts: vec![HashMap::new(); table.schema.shapes.len()],
        };
        columns.seen.resize_with(table.schema.paths.len(), Seen::default);
        let mut met = vec![false; table.schema.shapes.len()];
        for row in &table.rows {
            let shape = &table.schema.shapes[row.shape as usize];
            if !std::mem::replace(&mut met[row.shape as usize], true) {
                for (position, path) in shape.paths.iter().enumerate() {
                    let at = columns.node(*path, budget)?;
                    columns.nodes[at].is_leaf = true;
                    columns.add_dicts(row.shape as usize, *path, position);
                }
            }
            for (position, path) in shape.paths.iter().enumerate() {
                columns.seen[*path as usize].add(value(table, row.cell(position)), budget)?;
            }
        }
        Ok(columns)
    }

    /// The node of a path, made with all above it.
    fn node(&mut self, path: PathId, budget: &mut Budget) -> ConvertResult<usize> {
        if let Some(at) = self.by_path.get(&path) {
            return Ok(*at);
        }
        let parent = self.node(self.table.schema.paths[path as usize].parent, budget)?;
        budget.charge(1, FIELD, "columns")?;
        let at = self.nodes.len();
        self.nodes.push(Node { path, ..Node::default() });
        self.nodes[parent].children.push(at);
        self.by_path.insert(path, at);
        Ok(at)
    }

    /// The dicts above a path, the outer ones first: so the shape numbers them.
    fn add_dicts(&mut self, shape: usize, path: PathId, position: usize) {
        let above = self.table.schema.paths[path as usize].parent;
        if path == ROOT || self.dicts[shape].contains_key(&above) {
            return;
        }
        self.add_dicts(shape, above, position);
        let number = self.dicts[shape].len() as u32;
        self.dicts[shape].insert(above, DictPlace { number, position });
    }

    /// The cells of these rows by path. Row after row: a row's cells are side by side.
    fn cells(&self, rows: &[u32], budget: &mut Budget) -> ConvertResult<Vec<Vec<Cell>>> {
        let leaves = self.nodes.iter().filter(|node| node.is_leaf);
        let all = (leaves.clone().count() as u64).saturating_mul(rows.len() as u64);
        budget.charge(all, size_of::<Cell>() as u64, "cells")?;
        let mut cells: Vec<Vec<Cell>> = vec![Vec::new(); self.table.schema.paths.len()];
        leaves.for_each(|node| cells[node.path as usize] = vec![MISSING; rows.len()]);
        for (at, row) in rows.iter().enumerate() {
            let row = &self.table.rows[*row as usize];
            let shape = &self.table.schema.shapes[row.shape as usize];
            for (position, path) in shape.paths.iter().enumerate() {
                cells[*path as usize][at] = row.cell(position);
            }
        }
        Ok(cells)
    }

    /// The symbols and all columns, of these rows, as one struct. `flat`: a column a path, dicts are no structs.
    pub(crate) fn batch(
        &self,
        py: Python<'_>,
        rows: &[u32],
        flat: bool,
        objects: &mut ObjectCache,
        budget: &mut Budget,
    ) -> ConvertResult<Column> {
        let cells = self.cells(rows, budget)?;
        let builder = Builder::new(py, self.table, objects)?;
        let mut out = Out { columns: self, builder, rows, cells, budget };
        let mut columns = vec![out.symbols()?];
        let root = &self.nodes[0];
        let all = if flat {
            out.flat_columns()?
        } else {
            root.children.iter().map(|child| out.column(*child)).collect::<ConvertResult<Vec<_>>>()?
        };
        if root.is_leaf && (root.children.is_empty() || !self.seen[ROOT as usize].is_no_value()) {
            columns.push(out.leaf(SINGLE.as_bytes(), ROOT)?);
        }
        let own: Vec<_> = columns.iter().map(|(field, _)| field.name.clone()).collect();
        if let Some((field, _)) = all.iter().find(|(field, _)| own.contains(&field.name)) {
            let name = field.name.to_string_lossy();
            let message =
                format!("a record has a key {name:?}, but a column of the table's own has that name");
            return Err(errors::usage(py, &message).into());
        }
        columns.extend(all);
        let rows = vec![true; rows.len()];
        Ok(struct_column(b"", &rows, columns))
    }
}

/// Columns on their way out, of some rows.
struct Out<'a, 'py> {
    columns: &'a Columns<'a>,
    builder: Builder<'a, 'py>,
    rows: &'a [u32],
    /// By path, the cells of these rows; `MISSING` where a row has none.
    cells: Vec<Vec<Cell>>,
    budget: &'a mut Budget,
}

impl<'a> Out<'a, '_> {
    fn symbols(&mut self) -> ConvertResult<Column> {
        let table = self.columns.table;
        let mut symbols = Vec::with_capacity(self.rows.len());
        for row in self.rows {
            let symbol = &*table.rows[*row as usize].symbol;
            if std::str::from_utf8(symbol).is_err() {
                let message = "Arrow has no text with a lone surrogate";
                return Err(ConvertError::unsupported(message).below_key(symbol));
            }
            symbols.push(Some(symbol));
        }
        Ok(text_column(SYMBOL.as_bytes(), &symbols, self.budget)?)
    }

    /// A column for each path with leaves, under the text of the path.
    fn flat_columns(&mut self) -> ConvertResult<Vec<Column>> {
        let mut open: Vec<usize> = self.columns.nodes[0].children.iter().rev().copied().collect();
        let mut columns = Vec::new();
        while let Some(at) = open.pop() {
            let node = &self.columns.nodes[at];
            open.extend(node.children.iter().rev());
            let is_value = node.children.is_empty() || !self.columns.seen[node.path as usize].is_no_value();
            if node.is_leaf && is_value {
                let keys = self.columns.table.schema.keys_of(node.path);
                keys.iter().try_for_each(|key| check_name(key).map_err(|e| e.below_keys(&keys)))?;
                self.budget.charge_names(&keys)?;
                columns.push(self.leaf(text_of_keys(&keys).as_bytes(), node.path)?);
            }
        }
        Ok(columns)
    }

    /// The column of a path; with paths below it a struct.
    fn column(&mut self, at: usize) -> ConvertResult<Column> {
        let Columns { table, nodes, seen, .. } = self.columns;
        let node = &nodes[at];
        let name = &*table.schema.keys[table.schema.paths[node.path as usize].key as usize];
        check_name(name).map_err(|error| error.below_keys(&table.schema.keys_of(node.path)))?;
        if node.children.is_empty() {
            return self.leaf(name, node.path);
        }
        if node.is_leaf && !seen[node.path as usize].is_no_value() {
            return self.json(name, node.path, true);
        }
        self.budget.charge(self.rows.len() as u64, 8, "rows of a column")?;
        let valid: Vec<bool> = (0..self.rows.len()).map(|at| self.is_dict(at, node.path)).collect();
        let children = node.children.iter().map(|child| self.column(*child)).collect::<ConvertResult<_>>()?;
        Ok(struct_column(name, &valid, children))
    }

    /// A row has a dict at a path, be it without keys.
    fn is_dict(&self, at: usize, path: PathId) -> bool {
        let shape = self.columns.table.rows[self.rows[at] as usize].shape;
        self.columns.dicts[shape as usize].contains_key(&path)
            || self.cells[path as usize].get(at).is_some_and(|cell| cell.tag == tag::EMPTY)
    }

    /// The column of a path below which there is none, or only such as have columns of their own.
    fn leaf(&mut self, name: &[u8], path: PathId) -> ConvertResult<Column> {
        let kind = self.columns.seen[path as usize].column_type();
        if kind == ColumnType::Json {
            return self.json(name, path, false);
        }
        let mut values = Vec::with_capacity(self.rows.len());
        for cell in std::mem::take(&mut self.cells[path as usize]) {
            values.push(if cell == MISSING { None } else { Some(self.in_utc(cell)?) });
        }
        Ok(column(name, &kind, &values, self.budget)?)
    }

    /// The value of a cell; a datetime in a zone that only Python knows becomes the same moment in UTC.
    #[inline]
    fn in_utc(&mut self, cell: Cell) -> ConvertResult<Value<'a>> {
        let value = value(self.columns.table, cell);
        let (tag::DATETIME_ZONED, Payload::Bytes(stamp)) = (value.tag, value.payload) else {
            return Ok(value);
        };
        let (clock, _, zone) = datetime::read_stamp(stamp)?;
        if !matches!(zone, Zone::Key(_)) {
            return Ok(value);
        }
        let offset = self.builder.cell(cell)?.call_method0("utcoffset")?;
        let offset: [i64; 3] = [
            offset.getattr("days")?.extract()?,
            offset.getattr("seconds")?.extract()?,
            offset.getattr("microseconds")?.extract()?,
        ];
        let microseconds = (offset[0] * 86_400 + offset[1]) * 1_000_000 + offset[2];
        let moment = (clock as i64 - microseconds) as u64;
        Ok(Value { tag: tag::DATETIME_UTC, payload: Payload::Fixed64(moment) })
    }

    /// The JSON text of what each row has at a path; of dicts as well, if their keys have no columns of their own.
    fn json(&mut self, name: &[u8], path: PathId, with_dicts: bool) -> ConvertResult<Column> {
        let json = Json::new(self.builder.py)?;
        let mut texts = Vec::with_capacity(self.rows.len());
        let cells = &self.cells[path as usize];
        for (at, row) in self.rows.iter().enumerate() {
            let value = match cells[at] {
                cell if cell.tag == tag::NONE => None,
                cell if cell != MISSING => Some(self.builder.cell(cell)?),
                _ if with_dicts => {
                    let shape = self.columns.table.rows[*row as usize].shape as usize;
                    let place = self.columns.dicts[shape].get(&path);
                    place.map(|place| self.builder.row_dict(*row as usize, *place)).transpose()?
                }
                _ => None,
            };
            let made = value.map(|value| json.text(&value)).transpose()?;
            self.budget.charge(made.as_ref().map_or(0, String::len) as u64, 1, "bytes of texts")?;
            texts.push(made);
        }
        let texts: Vec<_> = texts.iter().map(|text| text.as_ref().map(String::as_bytes)).collect();
        let (field, array) = text_column(name, &texts, self.budget)?;
        Ok((Field { json: true, ..field }, array))
    }
}

/// `json.dumps(value, default=str)`.
struct Json<'py> {
    dumps: Bound<'py, PyAny>,
    named: Bound<'py, PyDict>,
}

impl<'py> Json<'py> {
    fn new(py: Python<'py>) -> PyResult<Json<'py>> {
        let named = PyDict::new(py);
        named.set_item("default", py.get_type::<PyString>())?;
        Ok(Json { dumps: py.import("json")?.getattr("dumps")?, named })
    }

    fn text(&self, value: &Bound<'py, PyAny>) -> PyResult<String> {
        self.dumps.call((value,), Some(&self.named))?.extract()
    }
}

fn check_name(key: &[u8]) -> ConvertResult<()> {
    if key.contains(&0) || std::str::from_utf8(key).is_err() {
        let message = "Arrow has no such name: a key has a NUL or a lone surrogate";
        return Err(ConvertError::unsupported(message));
    }
    Ok(())
}

fn value(table: &Table, cell: Cell) -> Value<'_> {
    Value { tag: cell.tag, payload: table.payload(cell) }
}
