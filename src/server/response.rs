//! What is answered: a scrape's body as it is pulled, or a few words of our own.
//!
//! In: an [`Outgoing`] answer, or a text and its type. Out: a response that hyper sends, whose end is noticed by its being
//! dropped.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use super::clients::{Served, Ticket};
use super::compression::Outgoing;
use super::leaving::Visit;

const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub(super) const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Words of our own, as text.
pub(super) fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Content> {
    let mut response = of_type(PLAIN_TEXT, text);
    *response.status_mut() = status;
    response
}

/// Words of our own. They hold for this moment, and are what their type says and nothing else.
pub(super) fn of_type(content_type: HeaderValue, text: impl Into<Bytes>) -> Response<Content> {
    let mut response = Response::new(Content::Text(Full::new(text.into())));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

pub(super) enum Content {
    /// The targets' samples, with the place that their scrapes hold.
    Scraped {
        outgoing: Box<Outgoing>,
        ticket: Ticket,
        visit: Visit,
    },
    Text(Full<Bytes>),
}

/// A body that tells, by being dropped, that its client is no longer being served.
pub(super) struct ServedBody {
    pub(super) content: Content,
    pub(super) _served: Served,
}

impl Body for ServedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.content {
            Content::Scraped { outgoing, ticket, visit } => {
                ticket.set_unread(false);
                let piece = outgoing.poll_piece(cx);
                ticket.set_unread(matches!(piece, Poll::Ready(Some(_))));
                if matches!(piece, Poll::Ready(None)) && outgoing.is_last() {
                    visit.was_last();
                }
                piece.map(|piece| piece.map(|bytes| bytes.map(Frame::data)))
            }
            Content::Text(text) => Pin::new(text).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Scraped { .. } => false,
            Content::Text(text) => text.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Scraped { .. } => SizeHint::default(),
            Content::Text(text) => text.size_hint(),
        }
    }
}
