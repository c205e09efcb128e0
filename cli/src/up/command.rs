//! Starting, showing and stopping everything.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use neap_agent::local::LocalPods;
use neap_coordinator::decide::DecideSettings;
use neap_coordinator::local::{LocalConfig, LocalCoordinator, Report, Reports};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::agent;
use super::args::UpArgs;
use super::machine::Json;
use super::plain::Plain;
use super::rows::Source;
use super::screen::Screen;
use super::view::{Begun, View};
use crate::error::CliError;
use crate::local::{self, Running};
use crate::run::Surroundings;

/// What is shown is at most this old.
const SHOW_EACH: Duration = Duration::from_millis(250);
/// Decisions that come faster are shown together.
const SHOW_AFTER: Duration = Duration::from_millis(50);

/// Runs `neap up`.
pub(crate) fn run(
    args: &UpArgs,
    around: &Surroundings,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let folder = fs::canonicalize(&args.folder).map_err(|error| {
        CliError::client(format!(
            "{}: {error}; name a folder of manifests",
            args.folder.display()
        ))
    })?;
    if !folder.is_dir() {
        return Err(CliError::client(format!(
            "{} is no folder; name the folder that the manifest is in",
            args.folder.display()
        )));
    }
    let state = args.state.clone().unwrap_or_else(|| folder.join(".neap"));
    log_to_file(&state)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CliError::client(format!("no threads: {error}")))?;
    runtime.block_on(Box::pin(up(args, folder, state, around, out)))
}

/// What coordinator and agent have to say beyond what is shown goes to a file of the state folder.
fn log_to_file(state: &Path) -> Result<(), CliError> {
    let unusable = |error: std::io::Error| {
        CliError::client(format!(
            "cannot use the state folder {}: {error} (--state names another)",
            state.display()
        ))
    };
    fs::create_dir_all(state).map_err(unusable)?;
    let file = fs::File::create(state.join("neap.log")).map_err(unusable)?;
    let filter = tracing_subscriber::EnvFilter::try_from_env("NEAP_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,openraft=warn"));
    // Fails when a test has set one already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::sync::Mutex::new(file))
        .try_init();
    Ok(())
}

/// The signals that stop it.
struct Asked {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Asked {
    fn new() -> Result<Self, CliError> {
        let wait =
            |kind| signal(kind).map_err(|error| CliError::client(format!("no signals: {error}")));
        Ok(Self {
            interrupt: wait(SignalKind::interrupt())?,
            terminate: wait(SignalKind::terminate())?,
            hangup: wait(SignalKind::hangup())?,
        })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

async fn up(
    args: &UpArgs,
    folder: PathBuf,
    state: PathBuf,
    around: &Surroundings,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let mut asked = Asked::new()?;
    let reports = Reports::default();
    let mut heard = reports.subscribe();
    let pods = LocalPods::new()
        .map_err(|error| CliError::client(format!("no file descriptor: {error}")))?;
    let told = pods.clone();
    let mut decide = DecideSettings::default();
    decide.engine.reversal_hold = Duration::from_secs(u64::from(args.reversal_hold));
    let coordinator = LocalCoordinator::start(
        LocalConfig {
            folder: folder.clone(),
            state_dir: state.clone(),
            http: args.http,
            decide,
        },
        reports.clone(),
        Arc::new(move |running| told.set(running.into_iter().map(agent::pod))),
    )
    .await
    .map_err(|error| CliError::client(crate::error::chain(&error)))?;
    for missing in agent::missing(&coordinator) {
        reports.note(missing);
    }
    let shutdown = CancellationToken::new();
    let config = agent::config(&coordinator, &state)
        .map_err(|error| CliError::client(format!("{}: {error}", state.display())))?;
    let agent_local = agent::local(&coordinator, pods);
    let mut agent = tokio::spawn(neap_agent::run_local(config, agent_local, shutdown.clone()));

    let http = format!("http://{}", coordinator.http);
    let noted = local::note(&Running {
        pid: std::process::id(),
        folder: folder.clone(),
        http: http.clone(),
    });
    if let Err(error) = &noted {
        reports.note(format!(
            "--local does not find this one ({error}); use --server {http}"
        ));
    }
    let begun = Begun {
        folder: folder.display().to_string(),
        state: state.display().to_string(),
        http,
        orphans: coordinator.orphans,
    };
    let source = Source::new(&coordinator, reports);
    let mut running = tokio::spawn(coordinator.until(shutdown.clone()));
    let mut view = view(args, out)?;
    let elapsed = || (around.elapsed)();
    view.begun(&begun)?;

    let (mut changes, mut first) = (source.changes(), source.changes());
    let mut decided = false;
    let mut stopping = false;
    let result = loop {
        let pause = async {
            // A decision is shown soon, and everything else at the next look.
            tokio::select! {
                () = tokio::time::sleep(SHOW_EACH) => {}
                _ = changes.changed() => tokio::time::sleep(SHOW_AFTER).await,
            }
        };
        let step = tokio::select! {
            report = heard.recv() => Step::Report(report),
            ended = &mut running => break ended.map_err(|error| error.to_string())
                .and_then(|ended| ended.map_err(|error| crate::error::chain(&error))),
            ended = &mut agent, if !stopping => {
                shutdown.cancel();
                let why = match ended {
                    Ok(Ok(())) => "it was not asked to".to_owned(),
                    Ok(Err(error)) => crate::error::chain(&error),
                    Err(error) => error.to_string(),
                };
                let _ = (&mut running).await;
                break Err(format!("the agent ended: {why}"));
            }
            () = asked.any() => Step::Stop,
            _ = first.changed(), if !decided => Step::Decided,
            () = pause => Step::Show,
        };
        let shown = match step {
            Step::Report(Ok(report)) => view.report(elapsed(), &report),
            Step::Report(Err(RecvError::Lagged(lost))) => {
                let message = format!("{lost} reports came faster than they could be shown");
                view.report(elapsed(), &Report::Note { message })
            }
            Step::Report(Err(RecvError::Closed)) => Ok(()),
            Step::Decided if source.has_decided() => {
                decided = true;
                view.first_decision(elapsed())
            }
            Step::Decided => Ok(()),
            Step::Show => view.rows(elapsed(), &source.rows()),
            Step::Stop if stopping => {
                drop(view);
                // The kernel kills the replicas with the process that started them.
                std::process::exit(130);
            }
            Step::Stop => Err(CliError::client("")),
        };
        let wants_stop = view.asked_to_stop();
        match shown {
            Ok(()) if !wants_stop => {}
            // A reader that went away, as in `neap up | head`, is a reason to stop too.
            _ if !stopping => {
                stopping = true;
                shutdown.cancel();
                let _ = view.stopping(elapsed());
            }
            _ if wants_stop => {
                drop(view);
                std::process::exit(130);
            }
            _ => {}
        }
    };
    let _ = view.stopped(elapsed());
    drop(view);
    drop(noted);
    result.map_err(CliError::client)
}

enum Step {
    Report(Result<Report, RecvError>),
    Decided,
    Show,
    Stop,
}

fn view<'a>(args: &UpArgs, out: &'a mut dyn Write) -> Result<Box<dyn View + 'a>, CliError> {
    if args.json {
        return Ok(Box::new(Json::new(out)));
    }
    if args.plain || !std::io::stdout().is_terminal() {
        return Ok(Box::new(Plain::new(out)));
    }
    Ok(Box::new(Screen::new()?))
}
