//! A table of texts, each column as wide as it must be.
//!
//! *Owns*: widths, sides, the colours of cells. *Never*: cuts a text off. *Runs on*: any thread.

use crate::terminal::paint::Paint;

/// Between two columns.
const GAP: &str = "  ";

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Column {
    name: &'static str,
    is_right: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cell {
    text: String,
    look: Look,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Look {
    Plain,
    Good,
    Bad,
    Warn,
}

impl Cell {
    pub fn good(text: impl Into<String>) -> Cell {
        Cell { text: text.into(), look: Look::Good }
    }

    pub fn bad(text: impl Into<String>) -> Cell {
        Cell { text: text.into(), look: Look::Bad }
    }

    pub fn warn(text: impl Into<String>) -> Cell {
        Cell { text: text.into(), look: Look::Warn }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell { text: text.into(), look: Look::Plain }
    }
}

impl Table {
    /// Columns by name. Those whose name begins with `>` are set to the right, as numbers are.
    pub fn new(columns: &[&'static str]) -> Table {
        let column = |name: &&'static str| match name.strip_prefix('>') {
            Some(name) => Column { name, is_right: true },
            None => Column { name, is_right: false },
        };
        Table { columns: columns.iter().map(column).collect(), rows: Vec::new() }
    }

    /// As many cells as there are columns.
    pub fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        assert_eq!(N, self.columns.len(), "a row has a cell for each column");
        self.rows.push(cells.into());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Lines, the names of the columns first.
    pub fn text(&self, paint: Paint) -> String {
        let width = |(index, column): (usize, &Column)| {
            let cells = self.rows.iter().map(|row| row[index].text.chars().count());
            cells.chain([column.name.len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = self.columns.iter().enumerate().map(width).collect();
        let head = self.columns.iter().map(|column| Cell::from(column.name));
        let mut out = paint.head(&self.line(&head.collect::<Vec<_>>(), &widths, Paint { is_coloured: false }));
        out.push('\n');
        for row in &self.rows {
            out.push_str(&self.line(row, &widths, paint));
            out.push('\n');
        }
        out
    }

    fn line(&self, cells: &[Cell], widths: &[usize], paint: Paint) -> String {
        let last = cells.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or(0);
        let mut line = String::new();
        for (index, cell) in cells.iter().enumerate().take(last + 1) {
            let spaces = " ".repeat(widths[index] - cell.text.chars().count());
            let text = match cell.look {
                Look::Plain => cell.text.clone(),
                Look::Good => paint.good(&cell.text),
                Look::Bad => paint.bad(&cell.text),
                Look::Warn => paint.warn(&cell.text),
            };
            if index > 0 {
                line.push_str(GAP);
            }
            if self.columns[index].is_right {
                line.push_str(&spaces);
            }
            line.push_str(&text);
            if !self.columns[index].is_right && index < last {
                line.push_str(&spaces);
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be_and_lines_end_with_their_text() {
        let mut table = Table::new(&["NAME", ">LAG", "STATE"]);
        table.row(["größer".into(), "1,204".into(), Cell::bad("behind")]);
        table.row(["b".into(), "0".into(), "".into()]);
        let plain = "NAME      LAG  STATE\ngrößer  1,204  behind\nb           0\n";
        assert_eq!(table.text(Paint { is_coloured: false }), plain);
        let coloured = table.text(Paint { is_coloured: true });
        assert!(coloured.contains("größer  1,204  \x1b[31mbehind\x1b[0m\n"), "{coloured:?}");
    }
}
