//! The authentication modes that KEDA's HTTP triggers share.

use reqwest::RequestBuilder;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};

use crate::error::FieldError;
use crate::http::TlsOptions;
use crate::metadata::{Field, Kind, Origin, Settings, Value};
use crate::shared::Digest;

const AUTH: &[Origin] = &[Origin::Auth];
const EITHER: &[Origin] = &[Origin::Metadata, Origin::Auth];

/// The fields of the authentication modes, for the tables of HTTP triggers.
pub(crate) const AUTH_FIELDS: &[Field] = &[
    Field::list("authModes")
        .or_named(&["authMode"])
        .from(EITHER)
        .one_of(&["apiKey", "basic", "tls", "bearer", "custom", "oauth"])
        .at_most_one_of(&["bearer", "basic", "oauth"]),
    Field::text("bearerToken")
        .or_named(&["token"])
        .from(AUTH)
        .secret(),
    Field::text("username").from(AUTH).secret(),
    Field::text("password").from(AUTH).secret(),
    Field::text("cert").from(AUTH).secret(),
    Field::text("key").from(AUTH).secret(),
    Field::text("ca").from(AUTH).secret(),
    Field::text("oauthTokenURI").from(AUTH).secret(),
    Field::list("scopes")
        .or_named(&["scope"])
        .from(AUTH)
        .secret(),
    Field::text("clientID").from(AUTH).secret(),
    Field::text("clientSecret").from(AUTH).secret(),
    Field::new("endpointParams", Kind::Query)
        .from(AUTH)
        .secret(),
    Field::text("customAuthHeader").from(AUTH).secret(),
    Field::text("customAuthValue").from(AUTH).secret(),
    Field::text("apiKey").from(EITHER).secret(),
    Field::text("method")
        .from(EITHER)
        .or_default("header")
        .one_of(&["header", "query"]),
    Field::text("keyParamName").from(EITHER),
];

/// How requests of one trigger say who asks.
#[derive(Clone)]
pub(crate) struct HttpAuth {
    modes: Vec<String>,
    pub(crate) bearer_token: String,
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) custom_header: String,
    pub(crate) custom_value: String,
    pub(crate) api_key: String,
    pub(crate) api_key_in_query: bool,
    pub(crate) api_key_name: String,
    pub(crate) tls: TlsOptions,
}

impl HttpAuth {
    /// Reads and checks the fields of [`AUTH_FIELDS`]; what a mode needs and lacks is added to
    /// `errors`.
    pub(crate) fn from_settings(settings: &mut Settings, errors: &mut Vec<FieldError>) -> Self {
        let own = |name: &str| settings.text(name).to_owned();
        let auth = Self {
            modes: settings.list("authModes").to_vec(),
            bearer_token: own("bearerToken"),
            username: own("username"),
            password: own("password"),
            custom_header: own("customAuthHeader"),
            custom_value: own("customAuthValue"),
            api_key: own("apiKey"),
            api_key_in_query: settings.text("method") == "query",
            api_key_name: own("keyParamName"),
            tls: TlsOptions {
                insecure: false,
                ca: own("ca"),
                cert: own("cert"),
                key: own("key"),
            },
        };
        let needs: [(&str, &[&str]); 6] = [
            ("bearer", &["bearerToken"]),
            ("basic", &["username"]),
            ("tls", &["cert", "key"]),
            ("oauth", &["oauthTokenURI", "clientID"]),
            ("custom", &["customAuthHeader", "customAuthValue"]),
            ("apiKey", &["apiKey"]),
        ];
        for (mode, fields) in needs.iter().filter(|(mode, _)| auth.uses(mode)) {
            for field in fields
                .iter()
                .filter(|field| settings.text(field).is_empty())
            {
                errors.push(FieldError::missing(
                    *field,
                    format!("authModes has {mode}, which needs it in the TriggerAuthentication"),
                ));
            }
        }
        if !auth.is_disabled() {
            let scopes = settings
                .list("scopes")
                .iter()
                .filter(|scope| !scope.is_empty())
                .cloned()
                .collect();
            settings.replace("scopes", Value::List(scopes));
        }
        auth
    }

    /// Whether no mode is set.
    pub(crate) fn is_disabled(&self) -> bool {
        self.modes.is_empty()
    }

    /// Whether `mode` is set.
    pub(crate) fn uses(&self, mode: &str) -> bool {
        self.modes.iter().any(|own| own == mode)
    }

    /// Adds what bearer, basic and custom modes add to a request.
    pub(crate) fn apply(&self, request: RequestBuilder) -> Result<RequestBuilder, FieldError> {
        if self.uses("bearer") {
            let value = secret_value("bearerToken", &format!("Bearer {}", self.bearer_token))?;
            return Ok(request.header(AUTHORIZATION, value));
        }
        if self.uses("basic") {
            return Ok(request.basic_auth(&self.username, Some(&self.password)));
        }
        if self.uses("custom") {
            return Ok(request.header(
                header_name("customAuthHeader", &self.custom_header)?,
                secret_value("customAuthValue", &self.custom_value)?,
            ));
        }
        Ok(request)
    }

    /// Everything that a request's answer may depend on.
    pub(crate) fn digest(&self) -> Digest {
        let flags = format!(
            "{:?}{}{:x}",
            self.modes,
            self.api_key_in_query,
            self.tls.digest().0
        );
        Digest::of([
            &flags,
            &self.bearer_token,
            &self.username,
            &self.password,
            &self.custom_header,
            &self.custom_value,
            &self.api_key,
            &self.api_key_name,
        ])
    }
}

/// `name` as the name of a header.
pub(crate) fn header_name(field: &str, name: &str) -> Result<HeaderName, FieldError> {
    HeaderName::try_from(name).map_err(|_| {
        FieldError::invalid(field, "<redacted>", "it must be the name of an HTTP header")
    })
}

/// `value` as the value of a header that logs must not show.
pub(crate) fn secret_value(field: &str, value: &str) -> Result<HeaderValue, FieldError> {
    let mut value = HeaderValue::try_from(value).map_err(|_| {
        FieldError::invalid(
            field,
            "<redacted>",
            "it must be text that an HTTP header can hold, on one line",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}
