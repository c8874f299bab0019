//! Keeps how a TOML table is read: field by field, every finding collected, nothing left over.
//!
//! Invariants: a field that is missing or wrong is found and replaced by a stand-in, so that reading goes on; a reader
//! that has any finding never yields its document. Why not serde: it stops at the first mistake.

use toml::{Table, Value};

use crate::document::FORMAT;
use crate::finding::{Collector, Finding, Findings, Place, Problem};

/// Parses `text` as TOML.
pub(crate) fn parse(text: &str) -> Result<Table, Findings> {
    text.parse::<Table>().map_err(|error| {
        let start = error.span().map_or(0, |span| span.start).min(text.len());
        let before = text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count().saturating_add(1);
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            .saturating_add(1);
        let message = error
            .message()
            .lines()
            .collect::<Vec<_>>()
            .join(", ")
            .chars()
            .take(200)
            .collect();
        Finding {
            place: Place::top(),
            problem: Problem::Syntax { line, column, message },
        }
        .into()
    })
}

/// One table, while it is read.
pub(crate) struct Fields<'a> {
    place: Place,
    table: Table,
    known: Vec<&'static str>,
    findings: &'a mut Collector,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(place: Place, table: Table, findings: &'a mut Collector) -> Self {
        Self {
            place,
            table,
            known: Vec::new(),
            findings,
        }
    }

    fn find(&mut self, field: &str, problem: Problem) {
        self.findings.push(self.place.field(field), problem);
    }

    /// Takes the field, with a finding where there is none.
    fn take(&mut self, field: &'static str, what: &'static str) -> Option<Value> {
        self.known.push(field);
        let value = self.table.remove(field);
        if value.is_none() {
            self.find(field, Problem::Missing(what));
        }
        value
    }

    fn wrong_type(&mut self, field: &str, found: &Value, expected: &'static str) {
        let problem = Problem::WrongType {
            found: kind(found),
            expected,
        };
        self.find(field, problem);
    }

    /// A text that `read` understands. `what` is an example, for the finding where it is missing.
    pub(crate) fn text<T>(
        &mut self,
        field: &'static str,
        what: &'static str,
        read: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Option<T> {
        match self.take(field, what)? {
            Value::String(text) => self.or_find(field, read(&text)),
            other => {
                self.wrong_type(field, &other, "a text in quotes");
                None
            }
        }
    }

    /// A text that `read` understands, or a number or date that TOML writes without quotes.
    pub(crate) fn text_or_plain<T>(
        &mut self,
        field: &'static str,
        what: &'static str,
        read: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Option<T> {
        match self.take(field, what)? {
            Value::String(text) => self.or_find(field, read(&text)),
            Value::Integer(number) => self.or_find(field, read(&number.to_string())),
            Value::Datetime(time) => self.or_find(field, read(&time.to_string())),
            other => {
                self.wrong_type(field, &other, "a text or a number");
                None
            }
        }
    }

    fn or_find<T>(&mut self, field: &str, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.find(field, problem)).ok()
    }

    /// A whole number that fits a `u32`.
    pub(crate) fn number(&mut self, field: &'static str, what: &'static str) -> Option<u32> {
        let value = self.take(field, what)?;
        let number = value.as_integer().and_then(|number| u32::try_from(number).ok());
        if number.is_none() {
            self.wrong_type(field, &value, "a whole number from 0 to 4294967295");
        }
        number
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&mut self, field: &'static str, what: &'static str) -> Option<bool> {
        let value = self.take(field, what)?;
        if value.as_bool().is_none() {
            self.wrong_type(field, &value, "true or false");
        }
        value.as_bool()
    }

    /// A list of texts that `read` understands; those that it does not are left out.
    pub(crate) fn texts<T>(
        &mut self,
        field: &'static str,
        what: &'static str,
        read: impl Fn(&str) -> Result<T, Problem>,
    ) -> Vec<T> {
        let values = match self.take(field, what) {
            Some(Value::Array(values)) => values,
            Some(other) => {
                self.wrong_type(field, &other, "a list of texts, like [\"a\", \"b\"]");
                return Vec::new();
            }
            None => return Vec::new(),
        };
        let mut texts = Vec::new();
        for value in values {
            match value {
                Value::String(text) => texts.extend(self.or_find(field, read(&text))),
                other => {
                    self.wrong_type(field, &other, "a list of texts, like [\"a\", \"b\"]");
                    break;
                }
            }
        }
        texts
    }

    /// The format, which must be the one that is read here.
    ///
    /// An unknown one is the only finding of its file: nothing else in it can be judged.
    pub(crate) fn format(&mut self) -> Result<(), Findings> {
        match self.take("format", "format = 1") {
            Some(Value::Integer(number)) if number != i64::from(FORMAT) => {
                let place = self.place.field("format");
                return Err(Finding {
                    place,
                    problem: Problem::UnknownFormat(number),
                }
                .into());
            }
            Some(Value::Integer(_)) | None => {}
            Some(other) => self.wrong_type("format", &other, "the number 1"),
        }
        Ok(())
    }

    /// A table that stands once; an empty one where it is missing.
    pub(crate) fn table(&mut self, field: &'static str, what: &'static str) -> Option<Table> {
        match self.take(field, what)? {
            Value::Table(table) => Some(table),
            other => {
                self.wrong_type(field, &other, "a table in [brackets]");
                None
            }
        }
    }

    /// The tables `[[field]]`; none where there are none. `read` gets each with its place.
    pub(crate) fn tables<T>(
        &mut self,
        field: &'static str,
        mut read: impl FnMut(usize, &mut Fields<'_>) -> T,
    ) -> Vec<T> {
        self.known.push(field);
        let values = match self.table.remove(field) {
            None => return Vec::new(),
            Some(Value::Array(values)) => values,
            Some(other) => {
                self.wrong_type(field, &other, "tables in [[double brackets]]");
                return Vec::new();
            }
        };
        let mut entries = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            let Value::Table(table) = value else {
                self.wrong_type(field, &value, "tables in [[double brackets]]");
                continue;
            };
            // Approvals have no name of their own: they are called after who gave them.
            let name = table
                .get("name")
                .or_else(|| table.get("organisation"))
                .and_then(Value::as_str);
            let place = Place::entry(field, index, name.unwrap_or_default());
            entries.push(self.inner(place, table, |fields| read(index, fields)));
        }
        entries
    }

    /// Reads `table`, which stands at `place` in the same file, whole.
    pub(crate) fn inner<T>(&mut self, place: Place, table: Table, read: impl FnOnce(&mut Fields<'_>) -> T) -> T {
        let mut fields = Fields::new(place, table, self.findings);
        let value = read(&mut fields);
        fields.finish();
        value
    }

    /// Finds what nobody has read.
    pub(crate) fn finish(self) {
        for field in self.table.keys() {
            let problem = Problem::UnknownField(self.known.join(", "));
            self.findings.push(self.place.field(field.as_str()), problem);
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}
