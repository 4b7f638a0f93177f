//! [`router`]: which address is answered by what; and the OpenAPI document of it.

use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum::{Json, Router};
use utoipa::openapi::schema::AnyOf;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, RefOr, Schema};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{adapters, batch, classify, info, ner, predict};
use crate::page;
use crate::requests::{
    before_stopping, guarded, nowhere, otherwise, timed, watched, with_body, with_token_alone,
};
use crate::service::Service;

/// The document's head.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "ls-llama",
        description = "Classifiers and taggers: many adapters on one base model.",
        license(name = "MIT", identifier = "MIT"),
    ),
    modifiers(&Bearer),
    security(("bearer" = []), ()),
    tags(
        (name = "Texts", description = "Labels of texts"),
        (name = "Words", description = "Labels of words, and entities"),
        (name = "Lines", description = "Any number of inputs, answered while they are sent"),
        (name = "Adapters", description = "Models that come and go; with the service's token alone"),
        (name = "Service", description = "How the service is"),
    )
)]
struct Api;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
        let scheme =
            scheme.description(Some("The token that the service was started with, if any"));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme.build()));
    }
}

/// The parts of the service, and the document that is made of them.
fn parts(service: &Arc<Service>) -> (Router<Arc<Service>>, Document) {
    let answering = OpenApiRouter::new()
        .routes(routes!(predict::predict))
        .routes(routes!(predict::predict_with))
        .routes(routes!(classify::classify))
        .routes(routes!(classify::classify_with))
        .routes(routes!(ner::ner))
        .routes(routes!(ner::ner_with))
        .route_layer(from_fn_with_state(service.clone(), with_body))
        .route_layer(from_fn_with_state(service.clone(), timed));
    // These have limits of their own.
    let streaming = OpenApiRouter::new()
        .routes(routes!(batch::batch))
        .routes(routes!(batch::batch_with));
    let telling = OpenApiRouter::new()
        .routes(routes!(info::info))
        .routes(routes!(info::metrics));
    let guarded = answering
        .merge(streaming)
        .merge(telling)
        .route_layer(from_fn_with_state(service.clone(), guarded));
    let changing = OpenApiRouter::new()
        .routes(routes!(adapters::list, adapters::add))
        .routes(routes!(adapters::remove))
        .route_layer(from_fn_with_state(service.clone(), with_body))
        .route_layer(from_fn_with_state(service.clone(), with_token_alone));
    let (router, mut document) = OpenApiRouter::with_openapi(Api::openapi())
        .merge(guarded)
        .merge(changing)
        .routes(routes!(info::health))
        .split_for_parts();
    say_any_of(&mut document);
    (router, document)
}

/// An empty list is of texts and of lists: what may be one of several forms need not be of one
/// alone, as utoipa says it of every untagged enum.
fn say_any_of(document: &mut Document) {
    let schemas = document.components.iter_mut();
    for schema in schemas.flat_map(|of| of.schemas.values_mut()) {
        if let RefOr::T(Schema::OneOf(one)) = schema {
            let mut any = AnyOf::new();
            any.items = std::mem::take(&mut one.items);
            any.description = one.description.take();
            any.example = one.example.take();
            *schema = Schema::AnyOf(any).into();
        }
    }
}

/// Answers with a service; to be served by [`serve`](crate::serve), or to be mounted.
///
/// It has a fallback of its own, so that it is nested and not merged; under a name with a slash at
/// its end (`.nest("/llm/", ls_serve::router(service))`), since its pages ask for what is beside
/// them.
pub fn router(service: Arc<Service>) -> Router {
    let (router, document) = parts(&service);
    router
        .route("/", get(|| async { page::TRY.answer() }))
        .route("/docs", get(|| async { page::DOCS.answer() }))
        .route("/openapi.json", get(move || async move { Json(document) }))
        .fallback(nowhere)
        .method_not_allowed_fallback(otherwise)
        .layer(from_fn_with_state(service.clone(), before_stopping))
        .layer(from_fn_with_state(service.clone(), watched))
        .with_state(service)
}
