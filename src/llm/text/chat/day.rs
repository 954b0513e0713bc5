//! A day, as `strftime` writes it.

/// A day of the Gregorian calendar, at midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Day {
    year: i64,
    month: usize,
    day: usize,
}

const MONTHS: [(&str, usize); 12] = [
    ("January", 31),
    ("February", 28),
    ("March", 31),
    ("April", 30),
    ("May", 31),
    ("June", 30),
    ("July", 31),
    ("August", 31),
    ("September", 30),
    ("October", 31),
    ("November", 30),
    ("December", 31),
];

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

impl Day {
    /// `YYYY-MM-DD`, if there is such a day.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts[..] else {
            return None;
        };
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if ![year, month, day].iter().all(|part| digits(part)) || year.len() != 4 {
            return None;
        }
        let day = Self {
            year: year.parse().ok()?,
            month: month.parse().ok()?,
            day: day.parse().ok()?,
        };
        let (_, length) = MONTHS.get(day.month.checked_sub(1)?)?;
        let length = length + usize::from(day.month == 2 && day.leap());
        (1..=length).contains(&day.day).then_some(day)
    }

    fn leap(self) -> bool {
        self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0)
    }

    /// Days of the year before it.
    fn before(self) -> usize {
        let months = MONTHS[..self.month - 1].iter().map(|(_, length)| length);
        months.sum::<usize>() + usize::from(self.month > 2 && self.leap()) + self.day - 1
    }

    /// 0 for Sunday.
    fn weekday(self) -> usize {
        let past = self.year - 1;
        let days = 365 * past + past / 4 - past / 100 + past / 400 + self.before() as i64 + 1;
        days.rem_euclid(7) as usize
    }

    /// The date by the codes of `strftime`; the time is midnight.
    pub fn format(self, format: &str) -> Result<String, String> {
        let (month, _) = MONTHS[self.month - 1];
        let weekday = DAYS[self.weekday()];
        let mut text = String::new();
        let mut codes = format.chars();
        while let Some(c) = codes.next() {
            if c != '%' {
                text.push(c);
                continue;
            }
            let code = codes.next();
            let (code, bare) = match code {
                Some('-') => (codes.next(), true),
                code => (code, false),
            };
            let number = |n: usize, width: usize| {
                if bare {
                    n.to_string()
                } else {
                    format!("{n:0width$}")
                }
            };
            text += &match code {
                Some('Y') => format!("{:04}", self.year),
                Some('y') => number(self.year as usize % 100, 2),
                Some('m') => number(self.month, 2),
                Some('d') => number(self.day, 2),
                Some('e') => format!("{:2}", self.day),
                Some('j') => number(self.before() + 1, 3),
                Some('B') => month.into(),
                Some('b' | 'h') => month[..3].into(),
                Some('A') => weekday.into(),
                Some('a') => weekday[..3].into(),
                Some('w') => self.weekday().to_string(),
                Some('F') => format!("{:04}-{:02}-{:02}", self.year, self.month, self.day),
                Some('H' | 'M' | 'S') => number(0, 2),
                Some('I') => number(12, 2),
                Some('p') => "AM".into(),
                Some('T') => "00:00:00".into(),
                Some('%') => "%".into(),
                other => {
                    let code = other.map(String::from).unwrap_or_default();
                    return Err(format!("strftime_now: %{code} is not supported"));
                }
            };
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::Day;

    #[test]
    fn days_as_python_writes_them() {
        // datetime(…).strftime("%d %b %Y, %A %j %-d %y %w")
        for (day, said) in [
            ("2024-07-26", "26 Jul 2024, Friday 208 26 24 5"),
            ("2024-03-01", "01 Mar 2024, Friday 061 1 24 5"),
            ("2023-12-31", "31 Dec 2023, Sunday 365 31 23 0"),
            ("2000-02-29", "29 Feb 2000, Tuesday 060 29 00 2"),
        ] {
            let day = Day::parse(day).unwrap();
            assert_eq!(day.format("%d %b %Y, %A %j %-d %y %w").unwrap(), said);
        }
        for wrong in [
            "2023-02-29",
            "2023-13-01",
            "2023-00-01",
            "23-01-01",
            "2023-1",
            "+023-01-01",
        ] {
            assert_eq!(Day::parse(wrong), None, "{wrong}");
        }
        assert!(
            Day::parse("2024-01-01")
                .unwrap()
                .format("%Q")
                .unwrap_err()
                .contains("%Q")
        );
    }
}
