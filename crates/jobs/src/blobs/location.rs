//! The one setting that says where blobs are kept.

use std::{fmt, path::PathBuf, str::FromStr};

use object_store::path::Path;

/// What a location may look like, for error texts.
const FORMS: &str = "a folder, file:///FOLDER, s3://BUCKET or s3://BUCKET/PREFIX, or redis: for the Redis that the jobs are in";

/// Where blobs are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobLocation {
    /// In the Redis that the jobs are in, hence in its memory: for a few machines and small results.
    Redis,
    /// In a folder, which several machines may share.
    Folder(PathBuf),
    /// In an object store that speaks S3.
    S3 {
        /// The bucket, which must exist.
        bucket: String,
        /// What the names of all objects begin with; may be empty.
        prefix: Path,
    },
}

/// Why a text is no location.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Of no known form.
    #[error("{0:?} is no place for blobs; write {FORMS}")]
    Form(String),
    /// `file:` without an absolute path, or with a host.
    #[error(
        "{0:?} names no folder; write file:///FOLDER, with the folder's absolute path as it is, or just the folder"
    )]
    File(String),
    /// Not the name of a bucket.
    #[error(
        "{0:?} is not the name of a bucket: 3 to 63 small letters, digits, dots and hyphens, as in s3://my-bucket/prefix"
    )]
    Bucket(String),
    /// Not the beginning of a name.
    #[error("{0:?} cannot be what the names of objects begin with: {1}")]
    Prefix(String, String),
    /// One of the `AWS_*` variables.
    #[error("the settings of S3 (the variables AWS_*) do not fit: {0}")]
    S3(String),
}

impl FromStr for BlobLocation {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let form = || LocationError::Form(text.chars().take(200).collect());
        let (scheme, rest) = match text.split_once(':') {
            None if text.is_empty() => return Err(form()),
            // A folder may have a colon in its name, but not where it would look like a URL.
            Some((before, _)) if before.contains('/') => return Ok(Self::Folder(text.into())),
            None => return Ok(Self::Folder(text.into())),
            Some(parts) => parts,
        };
        match scheme {
            "redis" if rest.is_empty() => Ok(Self::Redis),
            "file" => match rest.strip_prefix("//") {
                Some(folder) if folder.starts_with('/') => Ok(Self::Folder(folder.into())),
                _ => Err(LocationError::File(text.chars().take(200).collect())),
            },
            "s3" => s3(rest.strip_prefix("//").ok_or_else(form)?),
            _ => Err(form()),
        }
    }
}

fn s3(rest: &str) -> Result<BlobLocation, LocationError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(allowed) {
        return Err(LocationError::Bucket(bucket.chars().take(80).collect()));
    }
    let parsed = Path::parse(prefix).map_err(|error| {
        LocationError::Prefix(
            prefix.chars().take(200).collect(),
            error.to_string().chars().take(200).collect(),
        )
    })?;
    Ok(BlobLocation::S3 { bucket: bucket.into(), prefix: parsed })
}

impl fmt::Display for BlobLocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis => formatter.write_str("redis:"),
            Self::Folder(folder) => write!(formatter, "{}", folder.display()),
            Self::S3 { bucket, prefix } => write!(formatter, "s3://{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let s3 =
            |bucket: &str, prefix: &str| BlobLocation::S3 { bucket: bucket.into(), prefix: prefix.into() };
        for (text, expected) in [
            ("redis:", BlobLocation::Redis),
            ("data/blobs", BlobLocation::Folder("data/blobs".into())),
            ("/srv/a:b", BlobLocation::Folder("/srv/a:b".into())),
            ("file:///srv/blobs", BlobLocation::Folder("/srv/blobs".into())),
            ("s3://my-bucket", s3("my-bucket", "")),
            ("s3://my-bucket/", s3("my-bucket", "")),
            ("s3://my-bucket/jesse/jobs/", s3("my-bucket", "jesse/jobs")),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn others_are_refused_with_what_is_allowed() {
        for (text, part) in [
            ("", "write a folder"),
            ("gs://bucket", "s3://BUCKET"),
            ("https://bucket.example", "is no place for blobs"),
            // That would be another Redis than the jobs are in.
            ("redis://127.0.0.1", "redis: for the Redis that the jobs are in"),
            ("s3:bucket", "s3://BUCKET"),
            ("s3://", "3 to 63 small letters"),
            ("s3://Big", "3 to 63 small letters"),
            ("s3://user:password@bucket/x", "3 to 63 small letters"),
            ("s3://my-bucket/a//b", "cannot be what the names"),
            ("s3://my-bucket/../other", "cannot be what the names"),
            ("file:relative", "file:///FOLDER"),
            ("file://host/folder", "file:///FOLDER"),
        ] {
            let refusal = text.parse::<BlobLocation>().err().map(|error| error.to_string());
            assert!(refusal.as_ref().is_some_and(|refusal| refusal.contains(part)), "{text}: {refusal:?}");
        }
    }
}
