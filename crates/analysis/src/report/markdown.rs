//! A report as Markdown.

use std::fmt::Write;

use super::{Block, Document};

/// The page as Markdown. A curve has no such form and is left out.
pub fn markdown(document: &Document) -> String {
    let mut page = format!("# {}\n", document.title);
    for block in &document.blocks {
        // Writing to a string cannot fail.
        let _written = match block {
            Block::Heading(title) => writeln!(page, "\n## {title}"),
            Block::Text(text) => writeln!(page, "\n{}", cell(text)),
            Block::List(lines) => {
                page.push('\n');
                lines.iter().try_for_each(|line| writeln!(page, "* {}", cell(line)))
            }
            Block::Table(titles, rows) => table(&mut page, titles, rows),
            Block::Curve(_) => {
                let heading = page.trim_end().rfind("\n## ");
                page.truncate(heading.unwrap_or(page.len()));
                Ok(())
            }
        };
    }
    page
}

fn table(page: &mut String, titles: &[String], rows: &[Vec<String>]) -> std::fmt::Result {
    let line = |cells: &[String]| {
        let cells: Vec<_> = cells.iter().map(|text| cell(text)).collect();
        format!("| {} |", cells.join(" | "))
    };
    writeln!(page, "\n{}\n|{}", line(titles), "---|".repeat(titles.len()))?;
    rows.iter().try_for_each(|row| writeln!(page, "{}", line(row)))
}

/// Names of strategies are a client's text: nothing in it may be read as markup.
fn cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '|' | '`' | '[' | ']' | '<' | '>' | '*' | '\\' | '#' => {
                safe.push('\\');
                safe.push(character);
            }
            control if control.is_control() => safe.push(' '),
            other => safe.push(other),
        }
    }
    safe
}
