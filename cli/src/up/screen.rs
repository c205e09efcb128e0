//! The live view.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc;
use std::time::Duration;

use neap_coordinator::local::Report;
use ratatui::DefaultTerminal;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Sparkline};

use super::figures::resident;
use super::plain::{self, trigger};
use super::rows::Row;
use super::view::{Begun, View};
use crate::error::CliError;

/// Points of a sparkline; two a second.
const POINTS: usize = 240;
const POINT_EACH: Duration = Duration::from_millis(500);
/// Lines of news that are kept.
const NEWS: usize = 200;
/// The least height of the news.
const NEWS_ROWS: u16 = 6;
/// Lines of a target besides those of its triggers: name, replicas over time (2), reason.
const ROW_LINES: u16 = 4;

/// Draws on the terminal, and gives it back when dropped.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    keys: mpsc::Receiver<()>,
    begun: Option<Begun>,
    first: Option<Duration>,
    rows: Vec<Row>,
    history: BTreeMap<String, VecDeque<u64>>,
    next_point: Duration,
    news: VecDeque<(Duration, String, bool)>,
    stopping: bool,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// It is none, or cannot be drawn on.
    pub(super) fn new() -> Result<Self, CliError> {
        let terminal = ratatui::try_init()?;
        let (pressed, keys) = mpsc::channel();
        std::thread::spawn(move || {
            // Ends with the process, or when the terminal does.
            while let Ok(event) = event::read() {
                let Event::Key(key) = event else { continue };
                let interrupt =
                    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if (interrupt || key.code == KeyCode::Char('q')) && pressed.send(()).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            terminal,
            keys,
            begun: None,
            first: None,
            rows: Vec::new(),
            history: BTreeMap::new(),
            next_point: Duration::ZERO,
            news: VecDeque::new(),
            stopping: false,
        })
    }

    fn draw(&mut self, at: Duration) -> Result<(), CliError> {
        let picture = Picture {
            begun: self.begun.as_ref(),
            first: self.first,
            rows: &self.rows,
            history: &self.history,
            news: &self.news,
            stopping: self.stopping,
            at,
        };
        self.terminal.draw(|frame| picture.draw(frame))?;
        Ok(())
    }

    fn add(&mut self, at: Duration, text: String, trouble: bool) {
        if self.news.len() >= NEWS {
            self.news.pop_front();
        }
        self.news.push_back((at, text, trouble));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

impl View for Screen {
    fn begun(&mut self, begun: &Begun) -> Result<(), CliError> {
        if begun.orphans > 0 {
            let text = format!(
                "stopped {} processes that a killed neap up left behind",
                begun.orphans
            );
            self.add(Duration::ZERO, text, false);
        }
        self.begun = Some(begun.clone());
        self.draw(Duration::ZERO)
    }

    fn first_decision(&mut self, at: Duration) -> Result<(), CliError> {
        self.first = Some(at);
        Ok(())
    }

    fn report(&mut self, at: Duration, report: &Report) -> Result<(), CliError> {
        if let Some((text, trouble)) = plain::line(report) {
            self.add(at, text, trouble);
        }
        Ok(())
    }

    fn rows(&mut self, at: Duration, rows: &[Row]) -> Result<(), CliError> {
        self.rows = rows.to_vec();
        while self.next_point <= at {
            self.next_point += POINT_EACH;
            for row in rows {
                let points = self.history.entry(row.scaled_object.clone()).or_default();
                if points.len() >= POINTS {
                    points.pop_front();
                }
                points.push_back(u64::try_from(row.replicas.unwrap_or(0)).unwrap_or(0));
            }
        }
        self.history
            .retain(|name, _| rows.iter().any(|row| row.scaled_object == *name));
        self.draw(at)
    }

    fn stopping(&mut self, at: Duration) -> Result<(), CliError> {
        self.stopping = true;
        self.draw(at)
    }

    fn stopped(&mut self, at: Duration) -> Result<(), CliError> {
        self.draw(at)
    }

    fn asked_to_stop(&mut self) -> bool {
        self.keys.try_recv().is_ok()
    }
}

/// One frame's content.
struct Picture<'a> {
    begun: Option<&'a Begun>,
    first: Option<Duration>,
    rows: &'a [Row],
    history: &'a BTreeMap<String, VecDeque<u64>>,
    news: &'a VecDeque<(Duration, String, bool)>,
    stopping: bool,
    at: Duration,
}

impl Picture<'_> {
    fn draw(&self, frame: &mut Frame<'_>) {
        let wanted: u16 = self.rows.iter().map(height).sum();
        let [head, targets, news] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(wanted),
            Constraint::Min(NEWS_ROWS),
        ])
        .areas(frame.area());
        self.head(frame, head);
        let mut top = targets.y;
        for row in self.rows {
            let height = height(row).min(targets.bottom().saturating_sub(top));
            if height > 0 {
                self.row(
                    frame,
                    Rect {
                        y: top,
                        height,
                        ..targets
                    },
                    row,
                );
            }
            top += height;
        }
        self.news(frame, news);
    }

    fn head(&self, frame: &mut Frame<'_>, area: Rect) {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let mut first = vec![Span::styled("neap up ", bold)];
        if let Some(begun) = self.begun {
            first.push(Span::raw(format!("{}  API {}", begun.folder, begun.http)));
        }
        let mut facts = vec![format!("{:.0} s", self.at.as_secs_f64())];
        if let Some(first) = self.first {
            facts.push(format!("first decision after {} ms", first.as_millis()));
        }
        if let Some((rss, _)) = resident() {
            facts.push(format!("{} MiB", rss >> 20));
        }
        facts.push(if self.stopping {
            "stopping all replicas; once more kills them".to_owned()
        } else {
            "q stops".to_owned()
        });
        let text = vec![
            Line::from(first),
            Line::styled(facts.join(" · "), Style::new().fg(Color::DarkGray)),
        ];
        frame.render_widget(Paragraph::new(text), area);
    }

    fn row(&self, frame: &mut Frame<'_>, area: Rect, row: &Row) {
        let [name, line, rest] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(2),
            Constraint::Min(0),
        ])
        .areas(area);
        let number = |n: Option<i32>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
        let title = Line::from(vec![
            Span::styled(
                format!("{} ", row.scaled_object),
                Style::new().add_modifier(Modifier::BOLD),
            ),
            Span::raw(format!("{}  ", row.target)),
            Span::styled(
                format!("{} replicas", number(row.replicas)),
                Style::new().fg(Color::Green),
            ),
            Span::raw(format!(
                "  {} ready of {}, {} to {}",
                row.ready, row.running, row.min, row.max
            )),
        ]);
        frame.render_widget(Paragraph::new(title), name);
        let points = self.history.get(&row.scaled_object);
        let points: Vec<u64> = points.into_iter().flatten().copied().collect();
        let shown = usize::from(line.width);
        let shown = points.get(points.len().saturating_sub(shown)..);
        let sparkline = Sparkline::default()
            .data(shown.unwrap_or_default())
            .max(u64::try_from(row.max.max(1)).unwrap_or(1))
            .style(Style::new().fg(Color::Cyan));
        frame.render_widget(sparkline, line);
        let mut text: Vec<Line<'_>> = row
            .triggers
            .iter()
            .map(|each| {
                let colour = if each.error.is_some() {
                    Color::Red
                } else {
                    Color::Reset
                };
                Line::styled(format!("  {}", trigger(each)), Style::new().fg(colour))
            })
            .collect();
        text.push(match &row.fault {
            Some(fault) => Line::styled(format!("  {fault}"), Style::new().fg(Color::Red)),
            None => Line::styled(format!("  {}", row.why), Style::new().fg(Color::DarkGray)),
        });
        frame.render_widget(Paragraph::new(text), rest);
    }

    fn news(&self, frame: &mut Frame<'_>, area: Rect) {
        let rows = usize::from(area.height.saturating_sub(1));
        let from = self.news.len().saturating_sub(rows);
        let lines: Vec<Line<'_>> = self
            .news
            .iter()
            .skip(from)
            .map(|(at, text, trouble)| {
                let style = if *trouble {
                    Style::new().fg(Color::Red)
                } else {
                    Style::new()
                };
                Line::styled(format!("{:7.1} s  {text}", at.as_secs_f64()), style)
            })
            .collect();
        let block = Block::new().borders(Borders::TOP).title("what happens");
        frame.render_widget(Paragraph::new(lines).block(block), area);
    }
}

/// Lines that a target takes.
fn height(row: &Row) -> u16 {
    ROW_LINES + u16::try_from(row.triggers.len()).unwrap_or(u16::MAX - ROW_LINES)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::up::rows::TriggerRow;

    #[test]
    fn a_target_a_fault_and_the_news_are_drawn() {
        let row = |fault: Option<&str>| Row {
            scaled_object: "default/web".into(),
            target: "Deployment/web".into(),
            replicas: Some(3),
            desired: Some(3),
            running: 3,
            ready: 2,
            min: 1,
            max: 8,
            triggers: vec![TriggerRow {
                name: "s0-queue".into(),
                kind: "node-accept-queue".into(),
                value: Some("15".into()),
                target: Some("3".into()),
                active: None,
                error: None,
            }],
            why: "held by the scaleDown window".into(),
            fault: fault.map(str::to_owned),
        };
        let rows = [row(None), row(Some("spec.triggers: empty"))];
        let history = BTreeMap::from([("default/web".to_owned(), VecDeque::from([1, 3, 8]))]);
        let news = VecDeque::from([(Duration::from_secs(1), "pod web-1 started".into(), false)]);
        let picture = Picture {
            begun: None,
            first: Some(Duration::from_millis(321)),
            rows: &rows,
            history: &history,
            news: &news,
            stopping: false,
            at: Duration::from_secs(9),
        };
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| picture.draw(frame)).unwrap();
        let text = terminal.backend().to_string();
        for expected in [
            "first decision after 321 ms",
            "3 replicas  2 ready of 3, 1 to 8",
            "s0-queue 15/3",
            "held by the scaleDown window",
            "spec.triggers: empty",
            "█",
            "1.0 s  pod web-1 started",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        // A terminal that is too small is no reason to fail.
        let mut small = Terminal::new(TestBackend::new(10, 3)).unwrap();
        small.draw(|frame| picture.draw(frame)).unwrap();
    }
}
