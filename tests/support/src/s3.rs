//! An S3 server on a folder (s3s-fs), with fault injection and a list of open uploads.
//!
//! Writes have their own implementation: s3s-fs keeps metadata in files named after the whole key,
//! and the keys of an export are too long for a file name.

mod faults;
mod journal;
mod uploads;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{
    S3, S3Request, S3Response, S3Result,
    auth::{S3Auth, SecretKey},
    dto::*,
    s3_error,
    service::{S3Service, S3ServiceBuilder},
};
use s3s_fs::FileSystem;
use tokio::{net::TcpListener, task::JoinHandle};
use tracelift_runtime::tasks;

pub use faults::{Faults, Gate, Operation};
use uploads::{Condition, Uploads};

pub const ACCESS_KEY_ID: &str = "tracelift-dev-access-key";
pub const SECRET_ACCESS_KEY: &str = "tracelift-dev-secret-key";

/// A running server.
pub struct S3Server {
    pub address: SocketAddr,
    pub faults: Arc<Faults>,
    uploads: Arc<Uploads>,
    root: PathBuf,
    keys: Arc<Keys>,
    task: Mutex<JoinHandle<()>>,
}

impl S3Server {
    /// Serves the folder on a listener.
    pub fn start(root: &Path, listener: TcpListener) -> io::Result<Self> {
        std::fs::create_dir_all(root)?;
        let address = listener.local_addr()?;
        let (faults, uploads) = (Arc::new(Faults::default()), Arc::new(Uploads::new(root)?));
        let files =
            FileSystem::new(root).map_err(|error| io::Error::other(format!("{error:?}")))?;
        let served = Served {
            files,
            root: root.to_owned(),
            faults: faults.clone(),
            uploads: Arc::clone(&uploads),
        };
        let mut builder = S3ServiceBuilder::new(served);
        let keys = Arc::new(Keys(Mutex::new(vec![ACCESS_KEY_ID.to_owned()])));
        builder.set_auth(KnownKeys(keys.clone()));
        let task = tasks::start("s3", serve(listener, builder.build()));
        Ok(Self { address, faults, uploads, root: root.to_owned(), keys, task: Mutex::new(task) })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Accepts another access key id, with the same secret.
    pub fn add_key(&self, access_key_id: &str) {
        self.keys.0.lock().expect("not poisoned").push(access_key_id.to_owned());
    }

    pub fn create_bucket(&self, name: &str) {
        std::fs::create_dir_all(self.root.join(name)).expect("a bucket");
    }

    /// Writes an object directly as a plain file, without going through HTTP.
    pub fn put(&self, bucket: &str, key: &str, content: &[u8]) {
        let path = self.root.join(bucket).join(key);
        std::fs::create_dir_all(path.parent().expect("a key has a folder")).expect("a folder");
        std::fs::write(path, content).expect("an object");
    }

    pub fn delete(&self, bucket: &str, key: &str) {
        std::fs::remove_file(self.root.join(bucket).join(key)).expect("an object to delete");
    }

    pub fn get(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.root.join(bucket).join(key)).ok()
    }

    /// Every key of a bucket, sorted.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let root = self.root.join(bucket);
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(
                        path.strip_prefix(&root).expect("below").to_string_lossy().into_owned(),
                    );
                }
            }
        }
        found.sort();
        found
    }

    /// The (key, upload id) of every upload that was neither completed nor aborted.
    pub fn open_uploads(&self) -> Vec<(String, String)> {
        self.uploads.open()
    }

    /// Stops accepting connections.
    pub fn stop(&self) {
        self.task.lock().expect("not poisoned").abort();
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(listener: TcpListener, service: S3Service) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { continue };
                let _ = socket.set_nodelay(true);
                let service = service.clone();
                tasks::start_in(&mut connections, "connection", async move {
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Access key ids, all with the same secret; any other is rejected with AWS's error.
struct Keys(Mutex<Vec<String>>);

struct KnownKeys(Arc<Keys>);

#[async_trait::async_trait]
impl S3Auth for KnownKeys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if self.0.0.lock().expect("not poisoned").iter().any(|known| known == access_key) {
            return Ok(SECRET_ACCESS_KEY.into());
        }
        Err(s3_error!(
            InvalidAccessKeyId,
            "The AWS Access Key Id you provided does not exist in our records."
        ))
    }
}

/// s3s-fs with fault injection.
struct Served {
    files: FileSystem,
    root: PathBuf,
    faults: Arc<Faults>,
    uploads: Arc<Uploads>,
}

/// Objects up to this size are read in one go.
const SMALL: u64 = 256 << 10;

impl Served {
    fn bucket(&self, name: &str) -> S3Result<()> {
        if self.root.join(name).is_dir() { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }

    /// An object is a file; a directory is not an object.
    fn object(&self, bucket: &str, key: &str) -> S3Result<()> {
        self.bucket(bucket)?;
        if self.root.join(bucket).join(key).is_dir() { Err(s3_error!(NoSuchKey)) } else { Ok(()) }
    }

    /// The condition of a write, if this server supports conditional writes.
    fn condition(&self, if_none: bool) -> S3Result<Condition> {
        match (if_none, self.faults.knows_conditions()) {
            (true, true) => Ok(Condition::IfNone),
            (true, false) => Err(s3_error!(
                NotImplemented,
                "A header you provided implies functionality that is not implemented"
            )),
            (false, _) => Ok(Condition::Always),
        }
    }

    /// Reads a small object that was written as a plain file, for which s3s-fs makes eight disk
    /// accesses.
    fn plain(&self, input: &GetObjectInput) -> Option<Vec<u8>> {
        let plain_key = !input.key.split('/').any(|part| part == ".." || part.is_empty());
        if input.range.is_some() || !plain_key {
            return None;
        }
        let path = self.root.join(&input.bucket).join(&input.key);
        let small =
            std::fs::metadata(&path).ok().filter(|found| found.is_file() && found.len() <= SMALL);
        small.and_then(|_| std::fs::read(path).ok())
    }
}

#[async_trait::async_trait]
impl S3 for Served {
    async fn get_object(
        &self,
        req: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let cut = self.faults.before(Operation::GetObject, &req.input.key).await?;
        // The etag is the same in every response, because readers that fetch a file in ranges
        // compare it.
        let e_tag = self
            .uploads
            .of_object(&req.input.bucket, &req.input.key)
            .map(|known| ETag::Strong(known.etag));
        if let Some(content) = self.plain(&req.input) {
            let length = i64::try_from(content.len()).ok();
            let content = if cut {
                Bytes::from(content).slice(..content_half(length))
            } else {
                Bytes::from(content)
            };
            let body =
                StreamingBlob::wrap(futures::stream::once(
                    async move { Ok::<_, io::Error>(content) },
                ));
            return Ok(S3Response::new(GetObjectOutput {
                body: Some(body),
                content_length: length,
                e_tag,
                ..Default::default()
            }));
        }
        self.object(&req.input.bucket, &req.input.key)?;
        let mut found = self.files.get_object(req).await?;
        found.output.e_tag = e_tag.or(found.output.e_tag);
        Ok(found)
    }

    async fn put_object(
        &self,
        req: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        self.bucket(&req.input.bucket)?;
        let key = req.input.key.clone();
        self.faults.good(req.credentials.as_ref(), &key)?;
        self.faults.before(Operation::PutObject, &key).await?;
        let input = req.input;
        self.faults.checksum(input.checksum_crc32.as_ref())?;
        let condition = self.condition(input.if_none_match.is_some())?;
        let body = input.body.ok_or_else(|| s3_error!(IncompleteBody))?;
        let tag = self.uploads.put(&input.bucket, &key, input.metadata, body, condition).await?;
        self.faults.after(Operation::PutObject, &key).await?;
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(tag)),
            ..Default::default()
        }))
    }

    async fn head_object(
        &self,
        req: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        self.faults.before(Operation::HeadObject, &req.input.key).await?;
        self.object(&req.input.bucket, &req.input.key)?;
        let known = self.uploads.of_object(&req.input.bucket, &req.input.key);
        let mut found = self.files.head_object(req).await?;
        if let Some(known) = known {
            found.output.metadata = known.metadata;
            found.output.e_tag = Some(ETag::Strong(known.etag));
        }
        Ok(found)
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.faults.before(Operation::DeleteObject, &req.input.key).await?;
        self.files.delete_object(req).await
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.bucket(&req.input.bucket)?;
        self.faults.good(req.credentials.as_ref(), &req.input.key)?;
        let input = req.input;
        self.faults.before(Operation::CreateMultipartUpload, &input.key).await?;
        let id = self.uploads.create(&input.key, input.metadata)?;
        self.faults.after(Operation::CreateMultipartUpload, &input.key).await?;
        let (bucket, key, upload_id) =
            (Some(input.bucket), Some(input.key), Some(self.faults.answered(id)));
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket,
            key,
            upload_id,
            ..Default::default()
        }))
    }

    async fn upload_part(
        &self,
        req: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        self.faults.good(req.credentials.as_ref(), &req.input.key)?;
        let input = req.input;
        self.faults.before(Operation::UploadPart, &input.key).await?;
        self.faults.checksum(input.checksum_crc32.as_ref())?;
        let body = input.body.ok_or_else(|| s3_error!(IncompleteBody))?;
        let tag = self.uploads.part(&input.key, &input.upload_id, input.part_number, body).await?;
        self.faults.after(Operation::UploadPart, &input.key).await?;
        Ok(S3Response::new(UploadPartOutput {
            e_tag: Some(ETag::Strong(tag)),
            ..Default::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        self.faults.good(req.credentials.as_ref(), &req.input.key)?;
        let input = req.input;
        self.faults.before(Operation::CompleteMultipartUpload, &input.key).await?;
        let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        self.faults.object_size(input.mpu_object_size)?;
        let condition = self.condition(input.if_none_match.is_some())?;
        let tag = self.uploads.complete(
            &input.bucket,
            &input.key,
            &input.upload_id,
            &parts,
            condition,
            self.faults.small_parts_allowed(),
        )?;
        self.faults.after(Operation::CompleteMultipartUpload, &input.key).await?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            e_tag: Some(ETag::Strong(tag)),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.faults.before(Operation::AbortMultipartUpload, &req.input.key).await?;
        self.uploads.abort(&req.input.key, &req.input.upload_id)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let prefix = req.input.prefix.unwrap_or_default();
        self.faults.before(Operation::ListMultipartUploads, &prefix).await?;
        let open = self.uploads.open().into_iter().filter(|(key, _)| key.starts_with(&prefix));
        let uploads = open
            .map(|(key, id)| MultipartUpload {
                key: Some(key),
                upload_id: Some(id),
                ..Default::default()
            })
            .collect();
        Ok(S3Response::new(ListMultipartUploadsOutput {
            uploads: Some(uploads),
            ..Default::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.files.list_objects_v2(req).await
    }

    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        self.files.create_bucket(req).await
    }

    async fn list_buckets(
        &self,
        req: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        self.files.list_buckets(req).await
    }

    async fn head_bucket(
        &self,
        req: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.files.head_bucket(req).await
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.files.get_bucket_location(req).await
    }
}

fn content_half(length: Option<i64>) -> usize {
    usize::try_from(length.unwrap_or_default() / 2).unwrap_or_default()
}
