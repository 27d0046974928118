//! What stores answer and we keep, with a bound for each: an upload id is stored with the task and an
//! ETag with every file, in a database that all customers share.

use aws_sdk_s3::operation::{
    create_multipart_upload::CreateMultipartUploadOutput,
    list_multipart_uploads::ListMultipartUploadsOutput,
};

use crate::{BucketError, Fault};

/// Longest accepted upload id; real ones have a few hundred bytes. It is sent in URLs, and the SDK
/// panics if it does not fit into one.
const MAX_ID_BYTES: usize = 4096;
/// Longest accepted ETag; real ones have at most 70 bytes.
const MAX_ETAG_BYTES: usize = 1024;

/// The ETag in a response to `call`; empty if the store sends none.
pub(crate) fn etag(call: &'static str, etag: Option<String>) -> Result<String, BucketError> {
    let etag = etag.unwrap_or_default();
    if etag.len() <= MAX_ETAG_BYTES {
        return Ok(etag);
    }
    Err(BucketError {
        fault: Fault::InvalidEndpoint,
        call,
        words: format!("with an ETag of more than {MAX_ETAG_BYTES} bytes"),
        extra: None,
    })
}

/// The id of a newly opened upload.
pub(crate) fn upload_id(answer: CreateMultipartUploadOutput) -> Result<String, BucketError> {
    answer.upload_id.filter(|id| is_usable(id)).ok_or_else(|| BucketError {
        fault: Fault::InvalidEndpoint,
        call: "CreateMultipartUpload",
        words: format!("without an upload id of at most {MAX_ID_BYTES} bytes"),
        extra: None,
    })
}

/// Ids of the open uploads of exactly this key.
pub(crate) fn uploads_of<'a>(
    answer: &'a ListMultipartUploadsOutput,
    key: &'a str,
) -> impl Iterator<Item = &'a str> {
    let of_key = answer.uploads().iter().filter(move |upload| upload.key() == Some(key));
    of_key.filter_map(|upload| upload.upload_id()).filter(|id| is_usable(id))
}

fn is_usable(id: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len())
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::MultipartUpload;

    use super::*;

    #[test]
    fn an_etag_that_is_too_long_to_keep_is_a_fault_of_the_endpoint() {
        assert_eq!(etag("PutObject", None), Ok(String::new()));
        assert_eq!(etag("PutObject", Some("\"x\"".to_owned())), Ok("\"x\"".to_owned()));
        let refused = etag("UploadPart", Some("x".repeat(MAX_ETAG_BYTES + 1))).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "Invalid endpoint: UploadPart answered with an ETag of more than 1024 bytes; give the address of an S3-compatible store, or omit \
             endpoint_url for AWS"
        );
    }

    #[test]
    fn an_id_that_no_address_can_hold_is_none() {
        let answer =
            |id: Option<String>| CreateMultipartUploadOutput::builder().set_upload_id(id).build();
        assert_eq!(upload_id(answer(Some("x".repeat(MAX_ID_BYTES)))), Ok("x".repeat(MAX_ID_BYTES)));
        for id in [None, Some(String::new()), Some("x".repeat(MAX_ID_BYTES + 1))] {
            assert_eq!(
                upload_id(answer(id)).unwrap_err().to_string(),
                "Invalid endpoint: CreateMultipartUpload answered without an upload id of at most 4096 bytes; give the address of an \
                 S3-compatible store, or omit endpoint_url for AWS"
            );
        }
    }

    #[test]
    fn of_the_uploads_that_are_listed_those_of_the_key_count_that_can_be_named() {
        let upload =
            |key: &str, id: &str| MultipartUpload::builder().key(key).upload_id(id).build();
        let answer = [
            upload("a", "1"),
            upload("ab", "2"),
            upload("a", &"x".repeat(1 << 20)),
            upload("a", ""),
            upload("a", "3"),
        ];
        let answer = ListMultipartUploadsOutput::builder().set_uploads(Some(answer.into())).build();
        assert_eq!(uploads_of(&answer, "a").collect::<Vec<_>>(), ["1", "3"]);
    }
}
