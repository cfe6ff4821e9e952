//! The explorer's files: GraphiQL with a sign-in (the crate `explorer`), embedded in the binary, so that a browser in a closed network
//! needs no other server.

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, HeaderName, StatusCode, header},
    middleware,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};

/// Nothing from other origins, and no frames. Monaco uses inline styles and images as `data:` URLs.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; \
     font-src 'self' data:; img-src 'self' data:; worker-src 'self'; connect-src 'self'; \
     frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// On every response, since a worker is subject to the policy of its own response.
const POLICY: [(HeaderName, &str); 1] = [(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY)];

/// For files whose content changes with each build.
const REVALIDATE: &str = "no-cache";
/// For files with a hash of the content in their names.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

pub(crate) fn router<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    Router::new()
        // Relative, so that a proxy can serve it under another path.
        .route("/", get(|| async { Redirect::temporary("graphiql") }))
        .route(
            "/graphiql",
            get(|headers: HeaderMap| async move { file("index.html", REVALIDATE, &headers) }),
        )
        .route("/graphiql/", get(|| async { Redirect::permanent("../graphiql") }))
        .route(
            "/graphiql/licences.txt",
            get(|headers: HeaderMap| async move { file("licences.txt", REVALIDATE, &headers) }),
        )
        .route("/graphiql/assets/{name}", get(asset))
        .layer(middleware::map_response(|response: Response| async move {
            (POLICY, response)
        }))
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    file(&format!("assets/{name}"), IMMUTABLE, &headers)
}

/// Responds with the file in the smallest encoding that the client accepts.
fn file(path: &str, cache: &'static str, request: &HeaderMap) -> Response {
    let (Some(content_type), Some(plain)) = (content_type(path), explorer::file(path)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let compressed = [("br", "br"), ("gzip", "gz")]
        .into_iter()
        .filter(|(coding, _)| accepts(request, coding))
        .find_map(|(coding, suffix)| Some((coding, explorer::file(&format!("{path}.{suffix}"))?)));
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, cache),
        (header::VARY, "accept-encoding"),
    ];
    match compressed {
        Some((coding, file)) => (headers, [(header::CONTENT_ENCODING, coding)], file).into_response(),
        None => (headers, plain).into_response(),
    }
}

/// The content type by the file's extension; none for compressed files, which have no URL of their own.
fn content_type(path: &str) -> Option<&'static str> {
    Some(match path.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "txt" => "text/plain; charset=utf-8",
        "ttf" => "font/ttf",
        _ => return None,
    })
}

/// Whether `Accept-Encoding` has the coding (or `*`) without excluding it by `q=0`.
fn accepts(request: &HeaderMap, coding: &str) -> bool {
    let mut any = false;
    let values = request
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok());
    for item in values.flat_map(|value| value.split(',')) {
        let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
        let wanted = parameters
            .trim()
            .strip_prefix("q=")
            .is_none_or(|quality| quality.trim().parse::<f32>().is_ok_and(|quality| quality > 0.0));
        match name.trim() {
            name if name.eq_ignore_ascii_case(coding) => return wanted,
            "*" => any = wanted,
            _ => {}
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn accepting(accept_encoding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(accept_encoding))])
    }

    #[test]
    fn reads_accept_encoding() {
        for (accept_encoding, br, gzip) in [
            ("gzip, deflate, br, zstd", true, true),
            ("gzip;q=0.8, BR ; q=0", false, true),
            ("*", true, true),
            ("br;q=0, *;q=0.1", false, true),
            ("gzip;q=0.000,*", true, false),
            ("identity", false, false),
            ("brotli", false, false),
            ("", false, false),
        ] {
            let request = accepting(accept_encoding);
            assert_eq!(accepts(&request, "br"), br, "br in {accept_encoding:?}");
            assert_eq!(accepts(&request, "gzip"), gzip, "gzip in {accept_encoding:?}");
        }
        assert!(!accepts(&HeaderMap::new(), "br"));
    }

    #[test]
    fn serves_the_page_and_nothing_unknown() {
        let page = file("index.html", REVALIDATE, &HeaderMap::new());
        assert_eq!(page.status(), StatusCode::OK);
        assert_eq!(page.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(page.headers()[header::CACHE_CONTROL], "no-cache");
        for path in [
            "",
            "assets",
            "assets/",
            "assets/none.js",
            "index.html.br",
            "../Cargo.toml",
            "assets/../index.html",
        ] {
            let status = file(path, IMMUTABLE, &HeaderMap::new()).status();
            assert_eq!(status, StatusCode::NOT_FOUND, "{path:?}");
        }
    }
}
