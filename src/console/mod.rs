//! The console: what people see in a browser, at `/`.
//!
//! Pages are made here, from what [`crate::service`] answers, and read well without scripts: every action is a form. Where there are
//! scripts, `assets/console.js` puts in what has changed, as [`live`] sends it, and [`charts`](../charts/chart.js) draws. Its routes stand in
//! the table of [`crate::api::routes`], behind the same guard as all others.
//!
//! What always holds:
//! * A browser is known by a cookie that no script and no other site gets ([`visitor`]): once somebody has shown a key it names a session
//!   that ends with the key. While there are no keys it is a random text that forms are tied to, so that no other site can send one.
//! * Every form carries a token made of that cookie; the guard refuses those without, so no handler can forget to.
//! * All text is escaped by the templates ([`maud`]); what others wrote is shown by [`show::text`], which makes characters visible that
//!   would change how the rest is read. Pages run scripts and styles of this server only, and load nothing else.

mod assets;
pub(crate) mod batch;
pub(crate) mod cache;
pub(crate) mod campaigns;
pub(crate) mod compare;
pub(crate) mod dead;
mod forms;
mod heat;
pub(crate) mod job;
pub(crate) mod jobs;
pub(crate) mod keys;
mod layout;
mod live;
pub(crate) mod login;
pub(crate) mod overview;
mod returns;
mod show;
pub(crate) mod submit;
mod visitor;
pub(crate) mod webhooks;

pub(crate) use assets::asset;
pub(crate) use layout::refused;
pub(crate) use visitor::{Visitor, check_form};
