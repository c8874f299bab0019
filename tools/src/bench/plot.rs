//! Keeps drawings in SVG that stand in an HTML page as they are: lines over two axes, and bars.
//!
//! Invariants: every text is escaped; colours come from the page's style, so a dark page has dark drawings; a number
//! that is none is not drawn.

use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 240.0;
/// Room for the numbers beside the axes.
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 34.0;
const TOP: f64 = 26.0;
const RIGHT: f64 = 12.0;
/// Names of colours in the page's style.
const COLOURS: usize = 4;

/// Text that means nothing in HTML.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// One line of a drawing.
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    /// Points in the order of x.
    pub(super) points: Vec<(f64, f64)>,
}

/// A mark on an axis.
pub(super) struct Mark {
    pub(super) at: f64,
    pub(super) text: String,
}

/// An axis, from its lowest to its highest value.
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) marks: Vec<Mark>,
}

impl Axis {
    /// From 0 on, with marks at round numbers; in the given unit.
    pub(super) fn linear(high: f64, unit: &str) -> Self {
        let high = if high.is_finite() && high > 0.0 { high } else { 1.0 };
        let rough = high / 4.0;
        let ten = 10_f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
        let step = steps
            .iter()
            .map(|step| step * ten)
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        let marks = (0..=4_u32)
            .map(|index| f64::from(index) * step)
            .filter(|at| *at <= high * 1.001);
        Self {
            low: 0.0,
            high: high * 1.05,
            marks: marks
                .map(|at| Mark {
                    at,
                    text: format!("{}{unit}", short(at)),
                })
                .collect(),
        }
    }

    /// Powers of ten from `low` to `high`, both above 0; values are drawn by their logarithm.
    pub(super) fn logarithmic(low: f64, high: f64, text: impl Fn(f64) -> String) -> Self {
        let (low, high) = (low.max(1.0).log10().floor(), high.max(10.0).log10().ceil());
        let decades = (0..12_u32).map(|index| low + f64::from(index)).filter(|at| *at <= high);
        Self {
            low,
            high,
            marks: decades
                .map(|at| Mark {
                    at,
                    text: text(10_f64.powf(at)),
                })
                .collect(),
        }
    }

    /// Where a value is, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
    }
}

/// Lines over two axes.
pub(super) fn lines(title: &str, x: &Axis, y: &Axis, series: &[Series<'_>]) -> String {
    let across = |value: f64| LEFT + x.share(value) * (WIDTH - LEFT - RIGHT);
    let up = |value: f64| HEIGHT - BOTTOM - y.share(value) * (HEIGHT - BOTTOM - TOP);
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{0}\"><title>{0}</title>",
        escaped(title)
    );
    for mark in &y.marks {
        let (at, end, text) = (up(mark.at), WIDTH - RIGHT, escaped(&mark.text));
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{text}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    for mark in &x.marks {
        let (at, low, text) = (across(mark.at), HEIGHT - BOTTOM, escaped(&mark.text));
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{low}\"/>\
             <text class=\"middle\" x=\"{at:.1}\" y=\"{:.1}\">{text}</text>",
            HEIGHT - BOTTOM + 18.0
        );
    }
    let mut legend = LEFT;
    for (colour, line) in (0..COLOURS).cycle().zip(series) {
        let points: Vec<String> = line
            .points
            .iter()
            .filter(|(x, y)| x.is_finite() && y.is_finite())
            .map(|(x, y)| format!("{:.1},{:.1}", across(*x), up(*y)))
            .collect();
        let _ = write!(
            out,
            "<polyline class=\"line c{colour}\" points=\"{}\"/>\
             <text class=\"c{colour}\" x=\"{legend:.1}\" y=\"15\">{}</text>",
            points.join(" "),
            escaped(line.name)
        );
        let letters = u32::try_from(line.name.chars().count()).unwrap_or(100);
        legend += 18.0 + 7.5 * f64::from(letters);
    }
    out.push_str("</svg>");
    out
}

/// One bar of two parts, with its name before it and its numbers behind.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) parts: [f64; 2],
    pub(super) text: String,
}

/// Bars below each other, the longest as wide as there is room.
pub(super) fn bars(title: &str, bars: &[Bar]) -> String {
    let longest = bars.iter().map(|bar| bar.parts.iter().sum::<f64>()).fold(0.0, f64::max);
    let mut out = format!("<div class=\"bars\" role=\"img\" aria-label=\"{}\">", escaped(title));
    for bar in bars {
        let [first, second] = bar.parts.map(|part| 100.0 * part / longest.max(f64::MIN_POSITIVE));
        let _ = write!(
            out,
            "<span>{}</span><div class=\"track\"><i class=\"b0\" style=\"width:{:.2}%\"></i>\
             <i class=\"b1\" style=\"width:{:.2}%\"></i></div><span>{}</span>",
            escaped(&bar.name),
            first.clamp(0.0, 100.0),
            second.clamp(0.0, 100.0),
            escaped(&bar.text)
        );
    }
    out.push_str("</div>");
    out
}

/// A number as people read it.
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if !value.is_finite() => "-".to_owned(),
        _ if size >= 10_000_000.0 => format!("{:.0}M", value / 1e6),
        _ if size >= 10_000.0 => format!("{:.0}k", value / 1e3),
        _ if size >= 1_000.0 => format!("{:.1}k", value / 1e3),
        _ if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        _ if size >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// Microseconds as people read them.
pub(super) fn time(micros: f64) -> String {
    match micros {
        _ if !micros.is_finite() => "-".to_owned(),
        _ if micros >= 1e6 => format!("{} s", short(micros / 1e6)),
        _ if micros >= 1e3 => format!("{} ms", short(micros / 1e3)),
        _ => format!("{} µs", short(micros)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_text_becomes_markup() {
        let nasty = "<script>alert('x' & \"y\")</script>";
        let safe = "&lt;script&gt;alert(&#39;x&#39; &amp; &quot;y&quot;)&lt;/script&gt;";
        assert_eq!(escaped(nasty), safe);
        let axis = || Axis {
            low: 0.0,
            high: 1.0,
            marks: vec![Mark {
                at: 0.5,
                text: nasty.to_owned(),
            }],
        };
        let series = [Series {
            name: nasty,
            points: vec![(0.0, f64::NAN), (0.1, 0.2), (f64::INFINITY, 0.3)],
        }];
        let bar = Bar {
            name: nasty.to_owned(),
            parts: [f64::NAN, 1.0],
            text: nasty.to_owned(),
        };
        let drawn = lines(nasty, &axis(), &axis(), &series) + &bars(nasty, &[bar]);
        assert!(!drawn.contains("<script") && !drawn.contains("alert('"), "{drawn}");
        assert_eq!(drawn.matches(safe).count(), 8);
        assert!(
            !drawn.contains("inf") && drawn.matches("points=\"").count() == 1,
            "{drawn}"
        );
    }

    #[test]
    fn numbers_are_short() {
        let all = [0.0, 0.25, 3.0, 3.25, 150.5, 1_500.0, 25_000.0, 3e7].map(short);
        assert_eq!(all.join(" "), "0 0.250 3 3.2 150 1.5k 25k 30M");
        assert_eq!([90.0, 1_500.0, 2e6].map(time).join(" "), "90 µs 1.5 ms 2 s");
    }

    #[test]
    fn marks_are_round_and_within_the_axis() {
        let texts = |axis: &Axis| {
            axis.marks
                .iter()
                .map(|mark| mark.text.clone())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(texts(&Axis::linear(18_000.0, "/s")), "0/s 5.0k/s 10k/s 15k/s");
        assert_eq!(texts(&Axis::linear(0.0, "")), "0 0.250 0.500 0.750 1");
        assert_eq!(
            texts(&Axis::logarithmic(80.0, 20_000.0, time)),
            "10 µs 100 µs 1 ms 10 ms 100 ms"
        );
    }
}
