//! A report as a page of HTML that needs nothing else: no script, no font, no other file.

use std::fmt::Write;

use super::{Block, Document, chart};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;margin:.5rem 0;display:block;overflow-x:auto}td,th{border:1px solid #ddd;padding:.2rem .6rem;text-align:right}\
td:first-child,th:first-child{text-align:left}th{background:#f5f5f5}svg{width:100%;height:auto}\
@media(prefers-color-scheme:dark){body{background:#161616;color:#ddd}th{background:#222}td,th{border-color:#444}}";

/// The page as HTML.
pub fn html(document: &Document) -> String {
    let title = escaped(&document.title);
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>\n"
    );
    for block in &document.blocks {
        // Writing to a string cannot fail.
        let _written = match block {
            Block::Heading(title) => writeln!(page, "<h2>{}</h2>", escaped(title)),
            Block::Text(text) => writeln!(page, "<p>{}</p>", escaped(text)),
            Block::List(lines) => {
                let items: Vec<_> = lines.iter().map(|line| format!("<li>{}</li>", escaped(line))).collect();
                writeln!(page, "<ul>{}</ul>", items.concat())
            }
            Block::Table(titles, rows) => writeln!(page, "{}", table(titles, rows)),
            Block::Curve(points) => writeln!(page, "{}", chart::svg(points)),
        };
    }
    page.push_str("</body></html>\n");
    page
}

fn table(titles: &[String], rows: &[Vec<String>]) -> String {
    let row = |cells: &[String], tag: &str| {
        let cells: Vec<_> = cells.iter().map(|text| format!("<{tag}>{}</{tag}>", escaped(text))).collect();
        format!("<tr>{}</tr>", cells.concat())
    };
    let rows: String = rows.iter().map(|cells| row(cells, "td")).collect();
    format!("<table>{}{rows}</table>", row(titles, "th"))
}

/// Names of strategies are a client's text.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
