//! The answer of `headpond size` as one page for a browser, without anything from elsewhere.

use headpond_sizing::advice::{Answer, Price, Question, Size};
use headpond_sizing::curve::knee;
use headpond_sizing::measured::Measured;
use headpond_sizing::time::text;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Waits beyond so many times what is asked are not plotted.
const FAR: f64 = 10.0;

/// Points on the screen.
const PLOT: (u32, u32) = (900, 340);

const STYLE: &str = ":root{color-scheme:light}body{font:15px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1d2733;background:#fff}
table{border-collapse:collapse;margin:.6rem 0 1.4rem}td,th{padding:.2rem .9rem .2rem 0;text-align:left;vertical-align:top;border-bottom:1px solid #e3e7ec}
.n{text-align:right}.n,.w{white-space:nowrap}.bad{background:#fdecea;padding:.4rem .8rem}.best{font-weight:600;background:#eaf5ee}
svg{max-width:100%;height:auto}h2{margin-top:2rem}";

const BLUE: RGBColor = RGBColor(31, 95, 164);
const GREY: RGBColor = RGBColor(104, 112, 122);
const GREEN: RGBColor = RGBColor(46, 139, 87);

/// The page.
///
/// # Errors
/// A plot cannot be drawn.
pub(super) fn page(question: &Question, answer: &Answer) -> Result<String, String> {
    let curve = question.measured.as_ref().map(capacity).transpose().map_err(|error| error.to_string())?;
    let waits = waits(answer, question.objective.wait).map_err(|error| error.to_string())?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "headpond size" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "How large the pool should be" }
                @for doubt in &answer.doubts { p.bad { "Not to be trusted: " (doubt) } }
                @if let Some(missing) = &answer.shortfall {
                    p.bad { b { "No size meets this: " } (missing.because) }
                }
                (sizes(&answer.sizes))
                @if !answer.budgets.is_empty() {
                    p { "Budgets: " @for (name, size) in &answer.budgets { (name) " " (size) " " } }
                }
                @if let Some(curve) = curve {
                    h2 { "What the database delivers" }
                    (PreEscaped(curve))
                }
                h2 { "Waits and price of each size" }
                (PreEscaped(waits))
                p { "Blue: the formula; green: simulated, with 90 % bands; sizes with far longer waits are in the table only." }
                (prices(&answer.prices))
                @if !answer.what_ifs.is_empty() { h2 { "What if" } (what_ifs(answer)) }
                @if !answer.audit.is_empty() {
                    h2 { "Audit" }
                    ul { @for finding in &answer.audit { li { (finding) } } }
                }
                h2 { "What this rests on" }
                ul { @for line in answer.assumed.iter().chain(&answer.notes) { li { (line) } } }
            }
        }
    };
    Ok(page.into_string())
}

fn sizes(sizes: &[Size]) -> Markup {
    let show = |size: &Size, value| if size.is_time { text(value) } else { format!("{value:.0}") };
    html! {
        table {
            tr { th { "setting" } th.n { "value" } th { "90 % interval" } th { "because" } }
            @for size in sizes {
                tr {
                    td { code { (size.setting) } @if !size.what.is_empty() { br; (size.what) } }
                    td.n { b { (show(size, size.value)) } }
                    td { (show(size, size.low)) " to " (show(size, size.high)) }
                    td { (size.because) }
                }
            }
        }
    }
}

fn prices(prices: &[Price]) -> Markup {
    let priced = prices.iter().any(|price| price.cost.is_some());
    html! {
        table {
            tr {
                th.n { "connections" } th.n { "late" } th.n { "p99 wait" } th { "simulated (90 %)" }
                th.n { "memory" } @if priced { th.n { "cost" } } th { "" }
            }
            @for price in prices {
                tr class=[(price.verdict == "recommended").then_some("best")] {
                    td.n { (price.connections) }
                    td.n { (format!("{:.2} %", 100.0 * price.late)) }
                    td.n { (price.wait_p99.map_or_else(|| "no end".to_owned(), text)) }
                    td.w {
                        @if let Some([middle, low, high]) = price.simulated {
                            (text(middle)) " (" (text(low)) " to " (text(high)) ")"
                        }
                    }
                    td.n { (format!("{:.0} MiB", price.memory)) }
                    @if let Some(cost) = price.cost { td.n { (format!("{cost:.0}")) } }
                    td { (price.verdict) }
                }
            }
        }
    }
}

fn what_ifs(answer: &Answer) -> Markup {
    html! {
        table {
            tr { th { "" } th.n { "p99 wait" } th.n { "failed" } th.n { "logins/s" } th { "recovers in" } }
            @for case in &answer.what_ifs {
                tr {
                    td { (case.what) }
                    td.n { (text(case.wait_p99)) }
                    td.n { (format!("{:.1} %", case.failed_percent)) }
                    td.n { (case.logins) }
                    td { (case.recovers_in.map_or_else(|| "never".to_owned(), text)) }
                }
            }
        }
    }
}

/// A number at an axis, without the digits that only rounding made.
fn tick(value: &f64) -> String {
    ((value * 1000.0).round() / 1000.0).to_string()
}

type Drawn = Result<String, Box<dyn std::error::Error>>;

/// X(n): what was measured, the fitted curve, and the knee with its interval.
fn capacity(measured: &Measured) -> Drawn {
    let mut svg = String::new();
    let Some(knee) = knee(&measured.levels, measured.spread, 1) else { return Ok(svg) };
    let most = measured.levels.last().map_or(1, |level| level.in_use);
    let highest = measured.levels.iter().map(headpond_sizing::curve::Level::rate).fold(0.0, f64::max);
    {
        let root = SVGBackend::with_string(&mut svg, PLOT).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(12)
            .x_label_area_size(38)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..f64::from(most) * 1.04, 0.0..highest * 1.15)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .label_style(("sans-serif", 13))
            .axis_desc_style(("sans-serif", 14))
            .x_label_formatter(&tick)
            .y_label_formatter(&tick)
            .x_desc("connections in use")
            .y_desc("completions per second")
            .draw()?;
        let (low, high) = (f64::from(knee.interval.0) - 0.4, f64::from(knee.interval.1) + 0.4);
        chart
            .draw_series([Rectangle::new([(low, 0.0), (high, highest * 1.15)], GREEN.mix(0.15).filled())])?;
        let at = f64::from(knee.connections);
        chart.draw_series(LineSeries::new([(at, 0.0), (at, highest * 1.15)], GREEN.stroke_width(2)))?;
        let name = format!("knee: {} ({} to {})", knee.connections, knee.interval.0, knee.interval.1);
        // Beside the line, on the side where there is room.
        let (aside, side) =
            if at > 0.6 * f64::from(most) { (-0.01, HPos::Right) } else { (0.01, HPos::Left) };
        let style = ("sans-serif", 14).into_font().color(&GREEN).pos(Pos::new(side, VPos::Top));
        let place = (at + aside * f64::from(most), highest * 1.12);
        chart.draw_series([Text::new(name, place, style)])?;
        let fitted = (1..=most).map(|n| (f64::from(n), knee.curve.rate(n)));
        chart.draw_series(LineSeries::new(fitted, BLUE.stroke_width(2)))?;
        let seen = measured.levels.iter();
        let dot = |(x, y)| Circle::new((x, y), 4, BLUE.filled());
        chart.draw_series(seen.map(|level| dot((f64::from(level.in_use), level.rate()))))?;
        root.present()?;
    }
    Ok(svg)
}

/// The p99 wait by size, as the formula has it, with simulated bands; and what is asked.
fn waits(answer: &Answer, asked: f64) -> Drawn {
    let mut svg = String::new();
    // Where the queue grows without end there is no scale that shows the others.
    let worth_showing = 1e3 * FAR * asked;
    let known: Vec<(f64, f64)> = (answer.prices.iter())
        .filter_map(|price| Some((f64::from(price.connections), 1e3 * price.wait_p99?)))
        .filter(|(_, wait)| *wait <= worth_showing)
        .collect();
    let bands: Vec<(f64, [f64; 3])> = answer
        .prices
        .iter()
        .filter_map(|price| Some((f64::from(price.connections), price.simulated?)))
        .filter(|(_, band)| 1e3 * band[2] <= worth_showing)
        .collect();
    let most = answer.prices.iter().map(|price| f64::from(price.connections)).fold(1.0, f64::max);
    let all = known.iter().map(|(_, wait)| *wait).chain(bands.iter().map(|(_, band)| 1e3 * band[2]));
    let highest = all.fold(2e3 * asked, f64::max);
    {
        let root = SVGBackend::with_string(&mut svg, PLOT).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(12)
            .x_label_area_size(38)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..most * 1.04, 0.0..highest * 1.1)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .label_style(("sans-serif", 13))
            .axis_desc_style(("sans-serif", 14))
            .x_label_formatter(&tick)
            .y_label_formatter(&tick)
            .x_desc("connections")
            .y_desc("p99 wait, ms")
            .draw()?;
        let limit = [(0.0, 1e3 * asked), (most * 1.04, 1e3 * asked)];
        chart.draw_series(LineSeries::new(limit, GREY.stroke_width(1)))?;
        let name = Text::new(
            "asked for",
            (most * 0.9, 1e3 * asked + highest * 0.05),
            ("sans-serif", 13).into_font().color(&GREY),
        );
        chart.draw_series([name])?;
        chart.draw_series(LineSeries::new(known.iter().copied(), BLUE.stroke_width(2)))?;
        chart.draw_series(known.iter().map(|point| Circle::new(*point, 3, BLUE.filled())))?;
        for (at, [middle, low, high]) in bands {
            chart.draw_series(LineSeries::new([(at, 1e3 * low), (at, 1e3 * high)], GREEN.stroke_width(3)))?;
            chart.draw_series([Circle::new((at, 1e3 * middle), 5, GREEN.filled())])?;
        }
        root.present()?;
    }
    Ok(svg)
}
