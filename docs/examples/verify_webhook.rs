// ring = "0.17", base64 = "0.23"
use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;

/// Whether the message is signed with the secret and recent. `body` is what was received, byte by byte.
pub fn verify(secret: &str, id: &str, sent_at: &str, signatures: &str, body: &[u8]) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let is_recent = sent_at.parse::<u64>().is_ok_and(|sent_at| now.abs_diff(sent_at) <= 300);
    let Ok(key) = STANDARD.decode(secret.trim_start_matches("whsec_")) else { return false };
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let signed = [format!("{id}.{sent_at}.").as_bytes(), body].concat();
    // Several while a secret is being rotated; compared in constant time.
    let is_signed = |signature: &str| {
        let tag = signature.strip_prefix("v1,").and_then(|tag| STANDARD.decode(tag).ok());
        tag.is_some_and(|tag| hmac::verify(&key, &signed, &tag).is_ok())
    };
    is_recent && signatures.split(' ').any(is_signed)
}
