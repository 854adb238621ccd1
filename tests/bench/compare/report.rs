//! What was measured, as a table and as a picture: what the README shows.

use std::fmt::Write;
use std::path::Path;

use plotters::prelude::*;

/// One comparison: the gateway and what it is held against, each with a figure of each round.
pub struct Row {
    pub what: &'static str,
    pub unit: Unit,
    /// The gateway comes first.
    pub contenders: Vec<Contender>,
    pub targets: Vec<Target>,
}

pub struct Contender {
    pub name: &'static str,
    pub rounds: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Unit {
    Microseconds,
    Milliseconds,
    PerSecond,
    Bytes,
}

/// What the gateway's figure shall be.
pub enum Target {
    /// A multiple of another's.
    Multiple { of: &'static str, ratio: f64 },
    /// As it is.
    Figure(f64),
}

impl Contender {
    pub fn median(&self) -> f64 {
        let mut sorted = self.rounds.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }
}

impl Unit {
    fn is_better_if_less(self) -> bool {
        self != Self::PerSecond
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::Microseconds => format!("{value:.1} µs"),
            Self::Milliseconds => format!("{value:.1} ms"),
            Self::PerSecond => format!("{}/s", thousands(value)),
            Self::Bytes => format!("{} bytes", thousands(value)),
        }
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Row {
    fn of(&self, name: &str) -> f64 {
        let contender = self.contenders.iter().find(|contender| contender.name == name);
        contender.expect("a contender of this row").median()
    }

    fn ratio(&self, of: &str) -> f64 {
        self.contenders[0].median() / self.of(of)
    }

    /// `0.93 × bare (at least 0.92)`
    pub fn judge(&self, target: &Target) -> String {
        let (value, bound) = match *target {
            Target::Multiple { of, ratio } => (self.ratio(of), ratio),
            Target::Figure(figure) => (self.contenders[0].median(), figure),
        };
        let (word, is_met) = match self.unit.is_better_if_less() {
            true => ("at most", value <= bound),
            false => ("at least", value >= bound),
        };
        let missed = if is_met { "" } else { ", missed" };
        match target {
            Target::Multiple { of, .. } => format!("{value:.2} × {of} ({word} {bound}{missed})"),
            Target::Figure(_) => format!("{} ({word} {bound}{missed})", self.unit.show(value)),
        }
    }

    /// How far apart the rounds were.
    pub fn spread(&self) -> String {
        let contenders = self.contenders.iter().map(|contender| {
            let bound = |most: fn(f64, f64) -> f64| contender.rounds.iter().copied().reduce(most);
            let show = |bound: Option<f64>| self.unit.show(bound.unwrap_or_default());
            format!(
                "{} {} to {}",
                contender.name,
                show(bound(f64::min)),
                show(bound(f64::max))
            )
        });
        contenders.collect::<Vec<_>>().join("; ")
    }

    pub fn markdown(&self) -> String {
        let figures = self.contenders.iter().map(|contender| {
            let figure = self.unit.show(contender.median());
            format!("{} {figure}", contender.name)
        });
        let ratios = self.targets.iter().filter_map(|target| match target {
            Target::Multiple { of, .. } => Some(format!("{:.2} × {of}", self.ratio(of))),
            Target::Figure(_) => None,
        });
        format!(
            "| {} | {} | {} |",
            self.what,
            figures.collect::<Vec<_>>().join("<br>"),
            ratios.collect::<Vec<_>>().join("<br>")
        )
    }
}

pub fn table(rows: &[Row]) -> String {
    let mut text = "| what | medians | the gateway's, as a multiple |\n|---|---|---|\n".to_owned();
    for row in rows {
        writeln!(text, "{}", row.markdown()).unwrap();
    }
    text
}

const WIDTH: u32 = 860;
const BAR: i32 = 17;
const GAP: i32 = 12;
const LEFT: i32 = 250;
const LONGEST: f64 = 470.0;

/// Bars, one group for each row, each group on a scale of its own.
pub fn plot(rows: &[Row], path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let lines = |row: &Row| row.contenders.len() as i32 + 1;
    let height: i32 = rows.iter().map(|row| lines(row) * BAR + GAP).sum::<i32>() + GAP;
    let area = SVGBackend::new(path, (WIDTH, height.unsigned_abs())).into_drawing_area();
    area.fill(&WHITE)?;
    let ours = RGBColor(0x1f, 0x6f, 0xb4);
    let theirs = RGBColor(0xb0, 0xb7, 0xbf);
    let text = ("sans-serif", 13).into_font();
    let mut y = GAP;
    for row in rows {
        let better = if row.unit.is_better_if_less() {
            "less"
        } else {
            "more"
        };
        let title = format!("{} ({better} is better)", row.what);
        area.draw(&Text::new(title, (8, y), text.clone().style(FontStyle::Bold)))?;
        y += BAR;
        let most = row.contenders.iter().map(Contender::median).fold(0.0, f64::max);
        for (n, contender) in row.contenders.iter().enumerate() {
            let value = contender.median();
            let end = LEFT + (value / most * LONGEST) as i32;
            let is_ours = n == 0 || contender.name.starts_with("aileron");
            let color = if is_ours { ours } else { theirs };
            area.draw(&Text::new(contender.name, (24, y + 1), text.clone()))?;
            area.draw(&Rectangle::new(
                [(LEFT, y + 1), (end, y + BAR - 3)],
                color.filled(),
            ))?;
            area.draw(&Text::new(row.unit.show(value), (end + 6, y + 1), text.clone()))?;
            y += BAR;
        }
        y += GAP;
    }
    area.present()?;
    Ok(())
}

const BEGIN: &str = "<!-- measured by tests/bench/run -->\n";
const END: &str = "<!-- end of what was measured -->\n";

/// Into the README, between its marks, and the picture that it shows.
pub fn write(rows: &[Row]) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    plot(rows, &repository.join("tests/bench/results.svg")).unwrap();
    let readme = repository.join("README.md");
    let text = std::fs::read_to_string(&readme).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the README has the mark");
    let (_, after) = rest.split_once(END).expect("the README has the other mark");
    let text = format!("{before}{BEGIN}{}\n\n{}{END}{after}", machine(), table(rows));
    std::fs::write(readme, text).unwrap();
}

/// What it was measured on.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown processor", |model| {
        model.trim_start_matches(['\t', ' ', ':'])
    });
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let cores = std::thread::available_parallelism().unwrap();
    format!(
        "On {cores} virtual cores of an {model}, Linux {}, all of it on loopback:",
        kernel.trim()
    )
}
