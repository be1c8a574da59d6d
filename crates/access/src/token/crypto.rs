//! Signatures of tokens, verified by ring, which the program has anyway: the backends that jsonwebtoken brings are aws-lc (which needs
//! cmake) and crates of which one, `rsa`, has a known weakness. Nothing is ever signed here.

use std::sync::Once;

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
    signature,
};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    // For keys in forms that no issuer publishes.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Has jsonwebtoken use this.
pub(super) fn choose() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails if another part of the program has chosen already, which is as good.
        let _chosen = PROVIDER.install_default();
    });
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as the provider has it")]
fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

#[expect(clippy::trivially_copy_pass_by_ref, clippy::unnecessary_wraps, reason = "as the provider has it")]
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    Ok(Box::new(Ring { algorithm: *algorithm, key: key.clone() }))
}

struct Ring {
    algorithm: Algorithm,
    key: DecodingKey,
}

/// How ring calls an algorithm.
enum Verifies {
    Rsa(&'static RsaParameters),
    Other(&'static dyn VerificationAlgorithm),
}

impl Ring {
    fn verifies(&self) -> Option<Verifies> {
        Some(match self.algorithm {
            Algorithm::ES256 => Verifies::Other(&ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => Verifies::Other(&ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => Verifies::Other(&ED25519),
            Algorithm::RS256 => Verifies::Rsa(&RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => Verifies::Rsa(&RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => Verifies::Rsa(&RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => Verifies::Rsa(&RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => Verifies::Rsa(&RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => Verifies::Rsa(&RSA_PSS_2048_8192_SHA512),
            _ => return None,
        })
    }
}

impl signature::Verifier<Vec<u8>> for Ring {
    fn verify(&self, message: &[u8], signed: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = match (self.verifies(), self.key.kind()) {
            (Some(Verifies::Rsa(parameters)), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signed)
            }
            (Some(Verifies::Other(algorithm)), DecodingKeyKind::SecretOrDer(key)) => {
                UnparsedPublicKey::new(algorithm, key).verify(message, signed)
            }
            _ => return Err(signature::Error::new()),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Ring {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
