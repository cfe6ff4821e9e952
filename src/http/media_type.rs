//! The media types of GraphQL over HTTP: what `Accept` allows, and whether `Content-Type` is JSON.

use axum::http::{HeaderMap, StatusCode, header};

/// The media type of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MediaType {
    /// `application/graphql-response+json`: the status tells whether the request was executed.
    GraphqlResponse,
    /// `application/json`: 200 for every well-formed request.
    Json,
}

impl MediaType {
    /// The type with the highest quality in `Accept`, the first of several; JSON without the header, none if it allows neither.
    pub(super) fn accepted(headers: &HeaderMap) -> Option<Self> {
        let mut best: Option<(f32, Self)> = None;
        let mut is_empty = true;
        for value in headers.get_all(header::ACCEPT) {
            for range in value.to_str().unwrap_or_default().split(',') {
                is_empty = false;
                let mut parts = range.split(';').map(str::trim);
                let media_type = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
                    "application/graphql-response+json" => Self::GraphqlResponse,
                    "application/json" | "application/*" | "*/*" => Self::Json,
                    _ => continue,
                };
                let quality = parts
                    .find_map(|part| part.strip_prefix("q="))
                    .map_or(1.0, |q| q.parse().unwrap_or(0.0));
                if quality > 0.0 && best.is_none_or(|(highest, _)| quality > highest) {
                    best = Some((quality, media_type));
                }
            }
        }
        match best {
            Some((_, media_type)) => Some(media_type),
            None => is_empty.then_some(Self::Json),
        }
    }

    /// The value of the response's `Content-Type` header.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
        }
    }

    /// The status of a well-formed request that is not executed.
    pub(super) const fn status_if_not_executed(self) -> StatusCode {
        match self {
            Self::GraphqlResponse => StatusCode::BAD_REQUEST,
            Self::Json => StatusCode::OK,
        }
    }
}

/// Whether `Content-Type` is JSON in UTF-8, which is JSON's encoding if no charset is named.
pub(super) fn content_type_is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let mut parts = value.split(';').map(|part| part.trim().to_ascii_lowercase());
    parts.next().as_deref() == Some("application/json")
        && parts.all(|part| {
            part.strip_prefix("charset=")
                .is_none_or(|charset| charset.trim_matches('"') == "utf-8")
        })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(name: header::HeaderName, values: &[&'static str]) -> HeaderMap {
        let values = values
            .iter()
            .map(|value| (name.clone(), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn accept_chooses_the_media_type() {
        use MediaType::{GraphqlResponse, Json};
        for (accept, expected) in [
            (&[][..], Some(Json)),
            (&["*/*"], Some(Json)),
            (&["application/*"], Some(Json)),
            (&["application/json"], Some(Json)),
            (&["application/graphql-response+json"], Some(GraphqlResponse)),
            (
                &["Application/GraphQL-Response+JSON; charset=utf-8"],
                Some(GraphqlResponse),
            ),
            // The first of the same quality.
            (
                &["application/graphql-response+json, application/json"],
                Some(GraphqlResponse),
            ),
            (&["application/json, application/graphql-response+json"], Some(Json)),
            (
                &["application/json;q=0.8, application/graphql-response+json;q=0.9"],
                Some(GraphqlResponse),
            ),
            (
                &["application/graphql-response+json;q=0.5", "application/json"],
                Some(Json),
            ),
            (&["text/html, */*;q=0.1"], Some(Json)),
            // Quality 0, or one that is not a number, excludes the type.
            (&["application/json;q=0"], None),
            (&["application/json;q=x"], None),
            (
                &["application/json;q=0, application/graphql-response+json;q=0.1"],
                Some(GraphqlResponse),
            ),
            (&["text/html"], None),
            (&["application/xml, image/*"], None),
            (&[""], None),
        ] {
            let accepted = MediaType::accepted(&headers(header::ACCEPT, accept));
            assert_eq!(accepted, expected, "{accept:?}");
        }
    }

    #[test]
    fn content_type_must_be_json_in_utf_8() {
        for (content_type, is_json) in [
            ("application/json", true),
            ("Application/JSON", true),
            ("application/json; charset=utf-8", true),
            ("application/json;charset=\"UTF-8\"", true),
            ("application/json; profile=x", true),
            ("application/json; charset=utf-16", false),
            ("application/graphql-response+json", false),
            ("application/graphql", false),
            ("text/plain", false),
            ("multipart/form-data; boundary=x", false),
            ("", false),
        ] {
            let headers = headers(header::CONTENT_TYPE, &[content_type]);
            assert_eq!(content_type_is_json(&headers), is_json, "{content_type}");
        }
        assert!(!content_type_is_json(&HeaderMap::new()));
    }

    #[test]
    fn only_graphql_responses_have_an_error_status_if_not_executed() {
        assert_eq!(MediaType::Json.status_if_not_executed(), StatusCode::OK);
        assert_eq!(
            MediaType::GraphqlResponse.status_if_not_executed(),
            StatusCode::BAD_REQUEST
        );
    }
}
