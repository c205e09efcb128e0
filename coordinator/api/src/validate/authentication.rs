//! Rules of TriggerAuthentication and ClusterTriggerAuthentication.

use super::{Reason, Refusal};
use crate::trigger_authentication::{
    AuthPodIdentity, IdentityOwner, OAuth2, OAuth2GrantType, PodIdentityProvider,
    TriggerAuthenticationSpec,
};

/// Everything that is wrong with the sources of credentials; empty if they can be used.
pub fn trigger_authentication(spec: &TriggerAuthenticationSpec) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    match &spec.pod_identity {
        Some(identity) if identity.provider == PodIdentityProvider::AzureWorkload => {
            azure(identity, &mut refusals);
        }
        Some(identity) if identity.provider == PodIdentityProvider::Aws => {
            aws(identity, &mut refusals);
        }
        // KEDA stops here for the other providers, so that an oauth2 section beside them goes
        // unchecked. Kept: objects that it admits must be admitted.
        Some(_) => return refusals,
        None => {}
    }
    if let Some(section) = &spec.oauth2 {
        oauth2(section, &mut refusals);
    }
    refusals
}

fn unlabelled(message: &str, field: &str, value: &str, allowed: &str) -> Refusal {
    let value = if value.is_empty() { "\"\"" } else { value };
    Refusal::new(Reason::Unlabelled, message, field, value, allowed)
}

fn is_set(field: &Option<String>) -> bool {
    field.as_deref().is_some_and(|v| !v.is_empty())
}

fn is_set_empty(field: &Option<String>) -> bool {
    field.as_deref() == Some("")
}

fn azure(identity: &AuthPodIdentity, refusals: &mut Vec<Refusal>) {
    if is_set_empty(&identity.identity_id) {
        refusals.push(unlabelled(
            "identityId of PodIdentity should not be empty. If it's set, identityId has to be different than \"\"",
            "spec.podIdentity.identityId",
            "",
            "a client ID, or absent",
        ));
    }
    if is_set(&identity.identity_authority_host) {
        if !is_set(&identity.identity_tenant_id) {
            refusals.push(unlabelled(
                "identityTenantID of PodIdentity should not be nil or empty when identityAuthorityHost of PodIdentity is set",
                "spec.podIdentity.identityTenantId",
                "",
                "a tenant ID, where identityAuthorityHost is set",
            ));
        }
    } else if is_set_empty(&identity.identity_tenant_id) {
        refusals.push(unlabelled(
            "identityTenantId of PodIdentity should not be empty. If it's set, identityTenantId has to be different than \"\"",
            "spec.podIdentity.identityTenantId",
            "",
            "a tenant ID, or absent",
        ));
    }
}

fn aws(identity: &AuthPodIdentity, refusals: &mut Vec<Refusal>) {
    let role = identity.role_arn.as_deref().unwrap_or_default();
    if is_set(&identity.role_arn) && identity.identity_owner == Some(IdentityOwner::Workload) {
        refusals.push(unlabelled(
            "roleArn of PodIdentity can't be set if KEDA isn't identityOwner",
            "spec.podIdentity.roleArn",
            role,
            "absent, where identityOwner is workload",
        ));
    }
    if is_set(&identity.external_id) && !is_set(&identity.role_arn) {
        refusals.push(unlabelled(
            "externalID of PodIdentity requires roleArn to be set",
            "spec.podIdentity.externalID",
            identity.external_id.as_deref().unwrap_or_default(),
            "absent, where roleArn is",
        ));
    }
}

fn oauth2(section: &OAuth2, refusals: &mut Vec<Refusal>) {
    if section.type_ != OAuth2GrantType::ClientCredentials {
        refusals.push(unlabelled(
            &format!(
                "oauth2.type must be 'clientCredentials', got '{}'",
                section.type_
            ),
            "spec.oauth2.type",
            section.type_.as_str(),
            "clientCredentials",
        ));
    }
    if section.client_id.is_empty() {
        refusals.push(unlabelled(
            "oauth2.clientId is required when oauth2 is configured",
            "spec.oauth2.clientId",
            "",
            "a client ID",
        ));
    }
    if section.token_url.is_empty() {
        refusals.push(unlabelled(
            "oauth2.tokenUrl is required when oauth2 is configured",
            "spec.oauth2.tokenUrl",
            "",
            "an http or https URL",
        ));
    } else if !is_http_url(&section.token_url) {
        refusals.push(unlabelled(
            "oauth2.tokenUrl must be a valid http or https URL",
            "spec.oauth2.tokenUrl",
            &section.token_url,
            "an http or https URL",
        ));
    }
}

/// Whether the text is an absolute http or https URL with a host: `scheme://host...`, without
/// blanks or control characters.
fn is_http_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let known = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    known && !host.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_oauth2(url: &str, grant: &str) -> Vec<String> {
        let spec = TriggerAuthenticationSpec {
            oauth2: Some(OAuth2 {
                type_: OAuth2GrantType::from(grant),
                client_id: "me".into(),
                client_secret: None,
                token_url: url.into(),
                scopes: vec![],
                token_url_params: Default::default(),
            }),
            ..Default::default()
        };
        trigger_authentication(&spec)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn token_urls() {
        assert!(with_oauth2("https://id.example.com/token", "clientCredentials").is_empty());
        assert!(
            with_oauth2("HTTP://id.example.com:8080/token?a=b", "clientCredentials").is_empty()
        );
        for bad in [
            "ftp://id.example.com",
            "id.example.com",
            "/token",
            "https://",
            "ht tp://a",
        ] {
            let refusals = with_oauth2(bad, "clientCredentials");
            assert_eq!(refusals.len(), 1, "{bad}");
            assert!(refusals[0].contains(bad), "{}", refusals[0]);
        }
    }

    #[test]
    fn an_unknown_grant_is_named() {
        let refusals = with_oauth2("https://a/b", "password");
        assert_eq!(
            refusals,
            [
                "oauth2.type must be 'clientCredentials', got 'password' (spec.oauth2.type = password; allowed: clientCredentials)"
            ]
        );
    }
}
