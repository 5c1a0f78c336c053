//! Numbers with units, as people write them: `40ms`, `6mbit`, `50gb`.

use std::time::Duration;

/// Parses a duration: a number, and `ns`, `us`, `ms`, `s`, `m` or `h`; several may follow one another (`1s 500ms`).
///
/// # Errors
/// A sentence that says what is wrong and shows a right one.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && text != "0" {
        return Err(format!("'{text}' has no unit: write '{text}ms' or '{text}s'"));
    }
    humantime::parse_duration(text)
        .map_err(|error| format!("'{text}' is not a duration such as '40ms' or '2s': {error}"))
}

/// Parses a data rate in bits per second: a number, and `bit`, `kbit`, `mbit` or `gbit`, in any case; decimal
/// multiples (1 kbit is 1,000 bit).
///
/// # Errors
/// A sentence that says what is wrong and shows a right one.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let factor = match unit.trim_end_matches("/s").trim_end_matches("ps").trim() {
        "bit" => 1.0,
        "kbit" => 1e3,
        "mbit" => 1e6,
        "gbit" => 1e9,
        "" => return Err(format!("'{text}' has no unit: write '{text}mbit' or '{text}kbit'")),
        _ => return Err(format!("'{text}' is not a rate such as '6mbit' or '800kbit'")),
    };
    let number: f64 = number.parse().map_err(|_| format!("'{text}' is not a rate such as '6mbit' or '800kbit'"))?;
    let rate = number * factor;
    if !(1.0..=1e13).contains(&rate) {
        return Err(format!("'{text}' is out of range: from 1bit to 10000gbit"));
    }
    Ok(rate.round() as u64)
}

/// Parses an amount of data in bytes: a number, and `mb`, `gb` or `tb`, in any case; decimal multiples, as providers count
/// (1 gb is 1,000,000,000 bytes).
///
/// # Errors
/// A sentence that says what is wrong and shows a right one.
pub fn parse_amount(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let wrong = || format!("'{text}' is not an amount of data such as '50gb' or '500mb'");
    let factor = match unit.trim() {
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        "" if !number.is_empty() => return Err(format!("'{text}' has no unit: write '{text}gb' or '{text}mb'")),
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let amount = number * factor;
    if !(1e6..=1e15).contains(&amount) {
        return Err(format!("'{text}' is out of range: from 1mb to 1000tb"));
    }
    Ok(amount.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("40ms"), Ok(Duration::from_millis(40)));
        assert_eq!(parse_duration("1s 500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert!(parse_duration("40").expect_err("no unit").contains("'40ms'"));
        for wrong in ["", "fast", "-1ms", "40xs"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_are_decimal_bits_per_second() {
        for (text, rate) in
            [("6mbit", 6_000_000), ("800kbit", 800_000), ("1.5Mbit", 1_500_000), ("1gbit/s", 1_000_000_000)]
        {
            assert_eq!(parse_rate(text), Ok(rate), "{text}");
        }
        for wrong in ["", "6", "mbit", "6mb", "-6mbit", "0mbit", "1.2.3mbit"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn amounts_are_decimal_bytes() {
        for (text, amount) in
            [("50gb", 50_000_000_000), ("500mb", 500_000_000), ("1.5TB", 1_500_000_000_000), ("2 gb", 2_000_000_000)]
        {
            assert_eq!(parse_amount(text), Ok(amount), "{text}");
        }
        assert!(parse_amount("50").expect_err("no unit").contains("'50gb'"));
        for wrong in ["", "gb", "50gib", "50gbit", "-1gb", "0.5mb", "1001tb", "1.2.3gb", "."] {
            assert!(parse_amount(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text: String) {
            let _ = parse_duration(&text);
            let _ = parse_rate(&text);
            let _ = parse_amount(&text);
        }

        #[test]
        fn whole_milliseconds_are_read_exactly(milliseconds in 0_u64..10_000_000) {
            let text = format!("{milliseconds}ms");
            prop_assert_eq!(parse_duration(&text), Ok(Duration::from_millis(milliseconds)));
        }
    }
}
