//! Which cryptography TLS uses, chosen in one place for the whole process.

use std::sync::Once;

/// Has TLS use ring, unless somebody has chosen before. Clients that are built with TLS but without a provider panic when none is
/// chosen: whoever makes one calls this first. Cheap to call again.
pub fn choose_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails if another part of the program has chosen already, which is as good.
        let _chosen = rustls::crypto::ring::default_provider().install_default();
    });
}
