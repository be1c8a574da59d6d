//! An SVG of ours as PNG.

use std::sync::{Arc, OnceLock};

use resvg::{tiny_skia, usvg};

use crate::errors::ServiceError;

/// The font of the texts. Which ones a machine has does not matter.
fn fonts() -> Arc<usvg::fontdb::Database> {
    static FONTS: OnceLock<Arc<usvg::fontdb::Database>> = OnceLock::new();
    let load = || {
        let mut fonts = usvg::fontdb::Database::new();
        fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
        let family =
            fonts.faces().next().and_then(|face| face.families.first()).map(|family| family.0.clone());
        fonts.set_sans_serif_family(family.unwrap_or_default());
        Arc::new(fonts)
    };
    Arc::clone(FONTS.get_or_init(load))
}

/// The font is a light one: a hair of an outline makes it as strong as what browsers show.
fn strengthened(svg: &str) -> String {
    let mut parts = svg.split("<text ");
    let mut strong = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let fill =
            part.split_once("fill=\"").and_then(|(_, rest)| rest.split_once('"')).map(|(fill, _)| fill);
        strong.push_str("<text ");
        if let Some(fill) = fill {
            strong.extend(["stroke=\"", fill, "\" stroke-width=\"0.7\" "]);
        }
        strong.push_str(part);
    }
    strong
}

pub(super) fn rendered(svg: &str) -> Result<Vec<u8>, ServiceError> {
    let options =
        usvg::Options { fontdb: fonts(), font_family: "sans-serif".to_owned(), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(&strengthened(svg), &options)
        .map_err(|error| ServiceError::internal("a chart cannot be rendered", &error))?;
    let size = tree.size().to_int_size();
    let pixels = tiny_skia::Pixmap::new(size.width(), size.height());
    let mut pixels = pixels.ok_or_else(|| {
        ServiceError::internal("a chart cannot be rendered", &std::io::Error::other("it has no size"))
    })?;
    resvg::render(&tree, tiny_skia::Transform::default(), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| ServiceError::internal("a chart cannot be encoded", &error))
}
