//! `GET /exports/{token}`: the file of an export, once. CSV is sent while its rows are read; a spreadsheet is compressed, and made before
//! the first byte is sent.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::try_unfold;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;
use tracing::{Instrument as _, Span};

use super::App;
use super::authentication::{Credentials, authenticate, forbidden};
use super::media_type::MediaType;
use super::response::{RequestError, set_allow};
use crate::error::{Error, ErrorCode};
use crate::export::{CsvFile, Rows, write_xlsx};
use crate::observe::incident;
use crate::permissions::Action;
use crate::store::{ExportFormat, Exported};

/// Bytes of a spreadsheet that are read at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Other methods than GET. HEAD too: it would use the export up.
pub(super) async fn other_method() -> Response {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let error = RequestError::new(status, ErrorCode::BadUserInput, "fetch exports by GET");
    let mut response = error.into_response(MediaType::Json);
    set_allow(&mut response, "GET");
    response
}

pub(super) async fn get(
    State(app): State<App>,
    token: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Response {
    // A path that is not UTF-8 has no token.
    let token = token.map(|Path(token)| token).unwrap_or_default();
    let sent = send(&app, &headers, &token).await;
    sent.unwrap_or_else(|error| error.into_response(MediaType::Json))
}

async fn send(app: &App, headers: &HeaderMap, token: &str) -> Result<Response, RequestError> {
    let running = app.rates.start_export().map_err(RequestError::rate_limited)?;
    let (viewer, session) = authenticate(app, Credentials::Headers(headers))?;
    app.rates.check_viewer(&viewer).map_err(RequestError::rate_limited)?;
    if let Err(error) = viewer.require(Action::ExportLists, "downloading exports") {
        return Err(forbidden(app, &viewer, "GET /exports", error.for_operator()).await);
    }
    let (store, reporting) = (&app.services.store, &app.services.reporting);
    let hospital = store.hospital(viewer.hospital).await?.ok_or_else(not_found)?;
    let export = store.use_export(&viewer, &session, token).await?;
    let export = export.ok_or_else(not_found)?;
    let list = match &export.content {
        Exported::Cohort { kind, order, .. } => format!("{} {}", kind.as_str(), order.list()),
        Exported::RecallEntries { .. } => "recall list".to_owned(),
    };
    let list = list.to_ascii_lowercase().replace(['_', ' '], "-");
    let date = store.today(hospital.time_zone);
    let rows = Rows::of_export(store, reporting, &hospital, Some(viewer.role), export.content).await?;
    let rows = rows.ok_or_else(not_found)?;
    let (content_type, ending) = match export.format {
        ExportFormat::Csv => ("text/csv; charset=utf-8", "csv"),
        ExportFormat::Xlsx => (
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            "xlsx",
        ),
    };
    let headers = [
        (header::CONTENT_TYPE, content_type.to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{list}-{date}.{ending}\""),
        ),
    ];
    Ok(match export.format {
        ExportFormat::Csv => (headers, csv(rows, running)).into_response(),
        ExportFormat::Xlsx => {
            let (length, body) = xlsx(rows, running).await?;
            (headers, [(header::CONTENT_LENGTH, length)], body).into_response()
        }
    })
}

/// The same for whatever reason, so that nobody learns of exports of others.
fn not_found() -> RequestError {
    RequestError::new(
        StatusCode::NOT_FOUND,
        ErrorCode::NotFound,
        "this session has no such export: it was fetched, has expired, or never was; export the list again",
    )
}

/// A body that is read as the client takes it. If a row cannot be read, the connection is closed before the end of the body.
fn csv(rows: Rows, running: OwnedSemaphorePermit) -> Body {
    let span = Span::current();
    let parts = try_unfold((CsvFile::new(rows), running), move |(mut file, running)| {
        let next = async move {
            match file.next().await {
                Ok(Some(part)) => Ok(Some((Bytes::from(part), (file, running)))),
                Ok(None) => Ok(None),
                Err(error) => Err(broken_off(&error)),
            }
        };
        next.instrument(span.clone())
    });
    Body::from_stream(parts)
}

fn broken_off(error: &Error) -> io::Error {
    incident(&format!("an export was broken off: {}", error.for_operator()));
    io::Error::other("the export was broken off")
}

/// The length of the file, and a body that has it. The file has no name, and is gone when the body is dropped.
async fn xlsx(rows: Rows, running: OwnedSemaphorePermit) -> Result<(u64, Body), RequestError> {
    let failed = |error: io::Error| Error::Internal(format!("cannot use a temporary file: {error}"));
    let mut file = tempfile::tempfile().map_err(failed)?;
    write_xlsx(rows, file.try_clone().map_err(failed)?).await?;
    file.rewind().map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let chunks = try_unfold((file, running), async |(file, running)| {
        let (file, chunk) = spawn_blocking(move || read_chunk(file)).await??;
        Ok::<_, io::Error>((!chunk.is_empty()).then_some((chunk, (file, running))))
    });
    Ok((length, Body::from_stream(chunks)))
}

fn read_chunk(mut file: File) -> io::Result<(File, Bytes)> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let length = file.read(&mut chunk)?;
    chunk.truncate(length);
    Ok((file, chunk.into()))
}
