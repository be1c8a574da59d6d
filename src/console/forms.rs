//! Fields of forms, each with its name, what there is to know of it, and what was wrong with what it was sent with. Nothing of it needs
//! a script: a form that is refused comes back as it was filled in.
#![expect(clippy::needless_pass_by_value, reason = "markup is made to be put into other markup")]

use std::collections::BTreeMap;

use axum::{Form, extract::rejection::FormRejection};
use maud::{Markup, html};

use super::show;
use crate::errors::{Code, ServiceError};

/// A form as it was sent, for handlers; it may be none.
pub(crate) type Filled<T> = Result<Form<T>, FormRejection>;

/// What is told of a form that cannot be read.
pub(super) fn unreadable(error: FormRejection) -> ServiceError {
    ServiceError::new(Code::InvalidRequest, show::plain(&error.body_text(), 300))
}

/// What was wrong, by the name of the field; under no name, what concerns all of them.
#[derive(Debug, Default)]
pub(super) struct Wrong(BTreeMap<String, String>);

impl Wrong {
    pub(super) fn add(&mut self, field: &str, message: impl Into<String>) {
        let told = self.0.entry(field.to_owned()).or_default();
        if !told.is_empty() {
            told.push_str("; ");
        }
        told.push_str(&message.into());
    }

    /// What was read of a field, or a note of why it cannot be.
    pub(super) fn take<T, E: ToString>(&mut self, field: &str, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.add(field, error.to_string())).ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn of(&self, field: &str) -> Option<&str> {
        self.0.get(field).map(String::as_str)
    }

    /// What stands above the form.
    pub(super) fn summary(&self) -> Markup {
        let fields = self.0.keys().filter(|field| !field.is_empty()).count();
        html! {
            @if !self.is_empty() {
                div.notice.bad role="alert" {
                    @if let Some(message) = self.of("") { p { (show::text(message, show::LONG)) } }
                    @if fields > 0 { p { "Nothing was done: " @if fields == 1 { "one field is" } @else { (fields) " fields are" } " not right." } }
                }
            }
        }
    }
}

/// A field.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Field<'a> {
    pub(super) name: &'a str,
    pub(super) label: &'a str,
    pub(super) value: &'a str,
    pub(super) hint: &'a str,
    pub(super) wrong: Option<&'a str>,
    pub(super) required: bool,
}

impl Field<'_> {
    /// One line, of a type that browsers know.
    pub(super) fn line(&self, kind: &str) -> Markup {
        self.suggesting(kind, &[])
    }

    /// One line that offers what is known, and takes everything.
    pub(super) fn suggesting(&self, kind: &str, known: &[String]) -> Markup {
        let Self { name, value, required, .. } = *self;
        let list = (!known.is_empty()).then(|| format!("{name}-known"));
        self.around(html! {
            input id=(name) type=(kind) name=(name) value=(value) required[required] maxlength="300" spellcheck="false" autocomplete="off"
                list=[list.as_deref()] aria-describedby=[self.described()] aria-invalid=[self.invalid()];
            @if let Some(list) = &list {
                datalist id=(list) { @for known in known { option value=(known) {} } }
            }
        })
    }

    /// Several lines.
    pub(super) fn lines(&self, rows: u32) -> Markup {
        let Self { name, value, .. } = *self;
        self.around(html! {
            textarea id=(name) name=(name) rows=(rows) maxlength="20000" spellcheck="false"
                aria-describedby=[self.described()] aria-invalid=[self.invalid()] { (value) }
        })
    }

    /// One of some.
    pub(super) fn choice(&self, known: &[String]) -> Markup {
        let Self { name, value, .. } = *self;
        let unknown = Some(value).filter(|value| !known.iter().any(|known| known == value));
        self.around(html! {
            select id=(name) name=(name) aria-describedby=[self.described()] aria-invalid=[self.invalid()] {
                @if let Some(value) = unknown { option value=(value) selected { (value) } }
                @for known in known { option value=(known) selected[known == value] { (known) } }
            }
        })
    }

    fn invalid(&self) -> Option<&'static str> {
        self.wrong.map(|_| "true")
    }

    /// The ids of what is said of it.
    fn described(&self) -> Option<String> {
        let said = [(!self.hint.is_empty(), "hint"), (self.wrong.is_some(), "wrong")];
        let ids = said.iter().filter(|(there, _)| *there).map(|(_, what)| format!("{}-{what}", self.name));
        Some(ids.collect::<Vec<_>>().join(" ")).filter(|ids| !ids.is_empty())
    }

    fn around(&self, control: Markup) -> Markup {
        let Self { name, label, hint, wrong, .. } = *self;
        html! {
            div.field {
                label for=(name) { (label) }
                (control)
                @if !hint.is_empty() { p.muted id={ (name) "-hint" } { (hint) } }
                @if let Some(wrong) = wrong { p.wrong id={ (name) "-wrong" } { (show::text(wrong, 1_000)) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_was_wrong_says_so_to_everybody() {
        let mut wrong = Wrong::default();
        wrong.add("fast", "must be a number");
        assert_eq!(wrong.take::<u8, _>("fast", Err("and small")), None);
        let field = Field {
            name: "fast",
            value: "<b>",
            hint: "a number",
            wrong: wrong.of("fast"),
            ..Field::default()
        };
        let html = field.line("text").into_string();
        assert!(html.contains(r#"aria-describedby="fast-hint fast-wrong""#), "{html}");
        assert!(html.contains(r#"aria-invalid="true""#) && html.contains(r#"value="&lt;b&gt;""#), "{html}");
        assert!(html.contains("must be a number; and small"), "{html}");
        assert!(wrong.summary().into_string().contains("one field is not right"));
        assert_eq!(Wrong::default().summary().into_string(), "");
    }

    #[test]
    fn a_choice_keeps_what_was_sent() {
        let known = ["1h".to_owned(), "4h".to_owned()];
        let shown = |value: &str| Field { name: "x", value, ..Field::default() }.choice(&known).into_string();
        assert!(shown("4h").contains(r#"<option value="4h" selected>"#));
        assert!(shown("9h").contains(r#"<option value="9h" selected>"#));
    }
}
