//! Tokens from an OAuth 2.0 token endpoint.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ValueFromSecret;
use crate::open_enum::open_enum;

open_enum! {
    /// The grant asked for.
    OAuth2GrantType {
        /// Client credentials (RFC 6749 section 4.4).
        ClientCredentials = "clientCredentials",
    }
}

/// A token endpoint and who asks there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["clientId", "tokenUrl", "type"]))]
pub struct OAuth2 {
    /// The grant.
    #[serde(rename = "type", default = "client_credentials")]
    #[schemars(extend("default" = "clientCredentials"))]
    pub type_: OAuth2GrantType,
    /// Client ID.
    pub client_id: String,
    /// Client secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<OAuth2ClientSecret>,
    /// URL of the token endpoint, http or https.
    pub token_url: String,
    /// Scopes to ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Further parameters of the request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub token_url_params: BTreeMap<String, String>,
}

fn client_credentials() -> OAuth2GrantType {
    OAuth2GrantType::ClientCredentials
}

/// A client secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2ClientSecret {
    /// Where it stands.
    pub value_from: ValueFromSecret,
}
