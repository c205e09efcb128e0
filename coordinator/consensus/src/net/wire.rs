//! Between openraft's messages and those of `peer.proto`.

use neap_proto::peer as pb;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};

use crate::codec::{payload_from_bytes, payload_to_bytes};
use crate::types::{Entry, LogId, RaftLeaderId, TypeConfig, Vote, log_id};

/// A message that lacks a field or holds one that does not decode.
#[derive(Debug, thiserror::Error)]
#[error("field {field}: {reason}")]
pub(super) struct WireError {
    pub(super) field: &'static str,
    pub(super) reason: String,
}

impl WireError {
    pub(super) fn new(field: &'static str, reason: impl ToString) -> Self {
        Self {
            field,
            reason: reason.to_string(),
        }
    }

    pub(super) fn missing(field: &'static str) -> Self {
        Self::new(field, "is missing")
    }
}

impl From<WireError> for tonic::Status {
    fn from(error: WireError) -> Self {
        tonic::Status::invalid_argument(error.to_string())
    }
}

pub(super) fn from_log_id(id: &LogId) -> pb::LogId {
    pb::LogId {
        leader: Some(pb::LeaderId {
            term: id.leader_id.term,
            node: id.leader_id.node_id,
        }),
        index: id.index,
    }
}

pub(super) fn to_log_id(id: pb::LogId) -> Result<LogId, WireError> {
    let leader = id
        .leader
        .ok_or_else(|| WireError::missing("LogId.leader"))?;
    Ok(log_id(leader.term, leader.node, id.index))
}

pub(super) fn to_optional_log_id(id: Option<pb::LogId>) -> Result<Option<LogId>, WireError> {
    id.map(to_log_id).transpose()
}

pub(super) fn from_vote(vote: &Vote) -> pb::Ballot {
    pb::Ballot {
        leader: Some(pb::LeaderId {
            term: vote.leader_id.term,
            node: vote.leader_id.node_id,
        }),
        committed: vote.committed,
    }
}

pub(super) fn to_vote(ballot: Option<pb::Ballot>, field: &'static str) -> Result<Vote, WireError> {
    let ballot = ballot.ok_or_else(|| WireError::missing(field))?;
    let leader = ballot
        .leader
        .ok_or_else(|| WireError::missing("Ballot.leader"))?;
    Ok(Vote {
        leader_id: RaftLeaderId {
            term: leader.term,
            node_id: leader.node,
        },
        committed: ballot.committed,
    })
}

pub(super) fn from_vote_request(
    request: &VoteRequest<TypeConfig>,
    route: pb::Route,
) -> pb::VoteRequest {
    pb::VoteRequest {
        route: Some(route),
        vote: Some(from_vote(&request.vote)),
        last_log: request.last_log_id.as_ref().map(from_log_id),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(super) fn to_vote_request(
    request: pb::VoteRequest,
) -> Result<VoteRequest<TypeConfig>, WireError> {
    let vote = to_vote(request.vote, "VoteRequest.vote")?;
    let mut out = VoteRequest::new(vote, to_optional_log_id(request.last_log)?);
    out.leadership_transfer = request.leadership_transfer;
    Ok(out)
}

pub(super) fn from_vote_response(response: &VoteResponse<TypeConfig>) -> pb::VoteReply {
    pb::VoteReply {
        vote: Some(from_vote(&response.vote)),
        granted: response.vote_granted,
        last_log: response.last_log_id.as_ref().map(from_log_id),
    }
}

pub(super) fn to_vote_response(
    reply: pb::VoteReply,
) -> Result<VoteResponse<TypeConfig>, WireError> {
    let vote = to_vote(reply.vote, "VoteReply.vote")?;
    Ok(VoteResponse::new(
        vote,
        to_optional_log_id(reply.last_log)?,
        reply.granted,
    ))
}

pub(super) fn from_append_request(
    request: &AppendEntriesRequest<TypeConfig>,
    route: pb::Route,
) -> Result<pb::AppendRequest, WireError> {
    let entry = |entry: &Entry| {
        let payload = payload_to_bytes(&entry.payload);
        Ok(pb::Entry {
            id: Some(from_log_id(&entry.log_id)),
            payload: payload.map_err(|error| WireError::new("Entry.payload", error))?,
        })
    };
    Ok(pb::AppendRequest {
        route: Some(route),
        vote: Some(from_vote(&request.vote)),
        previous: request.prev_log_id.as_ref().map(from_log_id),
        entries: request
            .entries
            .iter()
            .map(entry)
            .collect::<Result<_, _>>()?,
        leader_commit: request.leader_commit.as_ref().map(from_log_id),
    })
}

pub(super) fn to_append_request(
    request: pb::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, WireError> {
    let entry = |entry: pb::Entry| {
        let payload = payload_from_bytes(&entry.payload);
        Ok(Entry {
            log_id: to_log_id(entry.id.ok_or_else(|| WireError::missing("Entry.id"))?)?,
            payload: payload.map_err(|error| WireError::new("Entry.payload", error))?,
        })
    };
    Ok(AppendEntriesRequest {
        vote: to_vote(request.vote, "AppendRequest.vote")?,
        prev_log_id: to_optional_log_id(request.previous)?,
        entries: request
            .entries
            .into_iter()
            .map(entry)
            .collect::<Result<_, WireError>>()?,
        leader_commit: to_optional_log_id(request.leader_commit)?,
    })
}

pub(super) fn from_append_response(
    response: &AppendEntriesResponse<TypeConfig>,
) -> pb::AppendReply {
    use pb::append_reply::Outcome;
    let outcome = match response {
        AppendEntriesResponse::Success => Outcome::Success(pb::Success {}),
        AppendEntriesResponse::PartialSuccess(last) => Outcome::Partial(pb::PartialSuccess {
            last: last.as_ref().map(from_log_id),
        }),
        AppendEntriesResponse::Conflict => Outcome::Conflict(pb::Conflict {}),
        AppendEntriesResponse::HigherVote(vote) => Outcome::HigherVote(from_vote(vote)),
    };
    pb::AppendReply {
        outcome: Some(outcome),
    }
}

pub(super) fn to_append_response(
    reply: pb::AppendReply,
) -> Result<AppendEntriesResponse<TypeConfig>, WireError> {
    use pb::append_reply::Outcome;
    Ok(
        match reply
            .outcome
            .ok_or_else(|| WireError::missing("AppendReply.outcome"))?
        {
            Outcome::Success(_) => AppendEntriesResponse::Success,
            Outcome::Partial(partial) => {
                AppendEntriesResponse::PartialSuccess(to_optional_log_id(partial.last)?)
            }
            Outcome::Conflict(_) => AppendEntriesResponse::Conflict,
            Outcome::HigherVote(ballot) => {
                AppendEntriesResponse::HigherVote(to_vote(Some(ballot), "AppendReply.higher_vote")?)
            }
        },
    )
}

pub(super) fn from_transfer_request(
    request: &TransferLeaderRequest<TypeConfig>,
    route: pb::Route,
) -> pb::TransferLeaderRequest {
    pb::TransferLeaderRequest {
        route: Some(route),
        from_leader: Some(from_vote(request.from_leader())),
        to: *request.to_node_id(),
        last_log: request.last_log_id().map(from_log_id),
    }
}

pub(super) fn to_transfer_request(
    request: pb::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, WireError> {
    let from = to_vote(request.from_leader, "TransferLeaderRequest.from_leader")?;
    let last = to_optional_log_id(request.last_log)?;
    Ok(TransferLeaderRequest::new(from, request.to, last))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::{Command, Payload};

    fn route() -> pb::Route {
        pb::Route {
            cluster: "a.1".into(),
            from: 1,
            to: 2,
        }
    }

    #[test]
    fn messages_survive_the_wire() {
        for transfer in [false, true] {
            let mut vote = VoteRequest::new(Vote::new(4, 2), Some(log_id(3, 1, 9)));
            vote.leadership_transfer = transfer;
            assert_eq!(
                to_vote_request(from_vote_request(&vote, route())).unwrap(),
                vote
            );
        }
        let reply = VoteResponse::new(Vote::new_committed(4, 2), None, true);
        assert_eq!(to_vote_response(from_vote_response(&reply)).unwrap(), reply);

        let append = AppendEntriesRequest {
            vote: Vote::new_committed(4, 2),
            prev_log_id: Some(log_id(3, 1, 9)),
            entries: vec![Entry {
                log_id: log_id(4, 2, 10),
                payload: Payload::Normal(Command::App(Bytes::from_static(b"x"))),
            }],
            leader_commit: None,
        };
        let sent = from_append_request(&append, route()).unwrap();
        let back = to_append_request(sent).unwrap();
        assert_eq!(format!("{back:?}"), format!("{append:?}"));

        for response in [
            AppendEntriesResponse::Success,
            AppendEntriesResponse::PartialSuccess(Some(log_id(1, 1, 1))),
            AppendEntriesResponse::PartialSuccess(None),
            AppendEntriesResponse::Conflict,
            AppendEntriesResponse::HigherVote(Vote::new(9, 1)),
        ] {
            assert_eq!(
                to_append_response(from_append_response(&response)).unwrap(),
                response
            );
        }
        let transfer =
            TransferLeaderRequest::new(Vote::new_committed(4, 2), 3, Some(log_id(4, 2, 9)));
        let back = to_transfer_request(from_transfer_request(&transfer, route())).unwrap();
        assert_eq!(back, transfer);
    }

    #[test]
    fn a_missing_field_is_named() {
        let error = to_vote_request(pb::VoteRequest::default()).unwrap_err();
        assert_eq!(error.to_string(), "field VoteRequest.vote: is missing");
        let error = to_append_response(pb::AppendReply::default()).unwrap_err();
        assert_eq!(error.field, "AppendReply.outcome");
    }
}
