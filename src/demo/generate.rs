//! The demo hospital's patients and visits: invented, realistic, and the same for the same seed and day on every machine.
//!
//! The hospital opened three years before `today`. Each patient registers on a day drawn by growth, season and weekday,
//! and then has episodes: series of visits to one department, at its intervals, until the patient does not return.
//! Integer arithmetic only, so that the result does not depend on the machine's rounding.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeDelta, Utc, Weekday};

use crate::records::{Patch, PatientDraft, Sex, VisitDraft};
use crate::statistics::{VisitChannel, VisitStatus};

/// How long the hospital has been open, in days.
const OPEN_FOR: u64 = 3 * 365;
/// Asia/Seoul is this far ahead of UTC all year.
const UTC_OFFSET_MINUTES: u64 = 9 * 60;
/// The time of day at which `today` is shown.
const NOW: u64 = 11 * 60 + 30;
/// Appointments begin every ten minutes.
const SLOT_MINUTES: u64 = 10;
const SLOTS_PER_HALF_DAY: u64 = 21;
const MORNING: u64 = 9 * 60;
const AFTERNOON: u64 = 14 * 60;
/// Holidays that fall on the same day each year, as (month, day).
const HOLIDAYS: [(u32, u32); 8] = [(1, 1), (3, 1), (5, 5), (6, 6), (8, 15), (10, 3), (10, 9), (12, 25)];
/// New patients by weekday from Monday, and the highest of them.
const WEEKDAYS: [u64; 7] = [1_200, 1_000, 950, 950, 1_100, 350, 0];
const BUSIEST_WEEKDAY: u64 = 1_200;
/// New patients per day grow from the first to the sum of both over the hospital's life.
const GROWTH: (u64, u64) = (700, 800);
/// A new patient's first appointment is at most so many days away.
const FIRST_AHEAD: u64 = 7;
/// Days from a missed visit to the one in its place, and from one episode to the next, at least and at most.
const REBOOKED: (u64, u64) = (1, 12);
const NEXT_EPISODE: (u64, u64) = (50, 360);
/// Minutes that patients of today arrive early, and that a visit takes.
const EARLY: u64 = 20;
const TREATMENT: u64 = 40;

// Shares in thousandths. LOYAL patients may begin ANOTHER_EPISODE; others never do.
const NEVER_CAME: u64 = 30;
const NO_PHONE: u64 = 45;
const FOREIGN: u64 = 35;
const BIRTH_YEAR_ONLY: u64 = 10;
const SATURDAY: u64 = 350;
const OTHER_DOCTOR: u64 = 120;
const WALK_IN_WITH_TIME: u64 = 250;
const WALK_IN_LEFT: u64 = 8;
const NO_SHOW: u64 = 75;
const NO_SHOW_ONLINE: u64 = 110;
const NO_SHOW_NEW_EXTRA: u64 = 45;
const CANCELED: u64 = 70;
const NEVER_CLOSED: u64 = 8;
const LEFT_COMPLETED: u64 = 200;
const STILL_TENTATIVE: u64 = 180;
const REBOOKS: u64 = 600;
const LOYAL: u64 = 660;
const ANOTHER_EPISODE: u64 = 780;
const SAME_DEPARTMENT: u64 = 650;

/// New patients by month, in thousandths.
type Season = [u64; 12];
const EVEN: Season = [
    950, 900, 1_050, 1_050, 1_000, 1_000, 950, 900, 1_000, 1_050, 1_050, 1_000,
];
const WINTER: Season = [1_350, 1_200, 1_100, 1_050, 900, 750, 650, 650, 850, 1_050, 1_200, 1_400];
const SUMMER: Season = [800, 750, 900, 1_000, 1_150, 1_300, 1_400, 1_300, 1_050, 900, 800, 800];
const YEAR_END: Season = [600, 650, 850, 900, 950, 1_000, 950, 900, 1_050, 1_250, 1_400, 1_400];
const BUSIEST_MONTH: u64 = 1_400;

/// Weights of the decades of life, from 0–9 to 90–99.
type Ages = [u64; 10];
const ALL_AGES: Ages = [4, 8, 13, 14, 16, 17, 14, 9, 4, 1];
const CHILDREN: Ages = [80, 20, 0, 0, 0, 0, 0, 0, 0, 0];
const YOUNGER: Ages = [6, 17, 26, 20, 13, 9, 5, 3, 1, 0];
const ADULTS: Ages = [0, 1, 15, 21, 23, 22, 13, 4, 1, 0];
const OLDER: Ages = [1, 3, 8, 11, 15, 20, 21, 14, 6, 1];

/// A department and how its patients come back.
struct Department {
    name: &'static str,
    /// The weight among the departments of new patients.
    share: u64,
    doctors: u64,
    /// How many in a thousand come back after the first visit of an episode, and after each later one.
    returns: (u64, u64),
    /// Days to the next visit, at least and at most.
    gap: (u64, u64),
    /// The days that a visit is booked ahead, at most; no more than eight weeks.
    ahead: u64,
    season: &'static Season,
    ages: &'static Ages,
}

#[rustfmt::skip]
const DEPARTMENTS: [Department; 10] = [
    Department { name: "Internal Medicine", share: 21, doctors: 5, returns: (560, 890), gap: (25, 40), ahead: 28, season: &WINTER, ages: &OLDER },
    Department { name: "Orthopedics", share: 14, doctors: 4, returns: (590, 730), gap: (6, 16), ahead: 10, season: &EVEN, ages: &OLDER },
    Department { name: "Physiotherapy", share: 9, doctors: 5, returns: (860, 905), gap: (2, 5), ahead: 28, season: &EVEN, ages: &ALL_AGES },
    Department { name: "Dermatology", share: 14, doctors: 3, returns: (480, 650), gap: (9, 21), ahead: 14, season: &SUMMER, ages: &YOUNGER },
    Department { name: "Dentistry", share: 12, doctors: 4, returns: (600, 820), gap: (165, 205), ahead: 56, season: &EVEN, ages: &ALL_AGES },
    Department { name: "Ear, Nose and Throat", share: 10, doctors: 3, returns: (450, 480), gap: (3, 7), ahead: 3, season: &WINTER, ages: &ALL_AGES },
    Department { name: "Pediatrics", share: 9, doctors: 3, returns: (660, 830), gap: (10, 75), ahead: 10, season: &WINTER, ages: &CHILDREN },
    Department { name: "Ophthalmology", share: 6, doctors: 2, returns: (440, 700), gap: (75, 105), ahead: 42, season: &EVEN, ages: &OLDER },
    Department { name: "Health Check", share: 8, doctors: 2, returns: (500, 780), gap: (345, 390), ahead: 56, season: &YEAR_END, ages: &ADULTS },
    Department { name: "Mental Health", share: 4, doctors: 2, returns: (640, 910), gap: (12, 28), ahead: 21, season: &EVEN, ages: &ADULTS },
];

/// Weights of the channels in their order, of a patient's first visit and of later ones.
const FIRST_CHANNELS: [u64; 7] = [33, 24, 9, 20, 5, 6, 3];
const LATER_CHANNELS: [u64; 7] = [12, 33, 27, 10, 6, 10, 2];

const FAMILY_NAMES: [&str; 20] = [
    "김", "이", "박", "최", "정", "강", "조", "윤", "장", "임", "한", "오", "서", "신", "권", "황", "안", "송", "류",
    "홍",
];
const FAMILY_WEIGHTS: [u64; 20] = [
    215, 147, 84, 47, 43, 23, 21, 20, 20, 16, 15, 15, 15, 14, 14, 13, 13, 12, 12, 11,
];
const FEMALE_NAMES: [[&str; 12]; 2] = [
    ["서", "지", "민", "수", "은", "하", "예", "유", "다", "채", "미", "소"],
    ["연", "윤", "은", "아", "현", "진", "영", "희", "원", "빈", "정", "주"],
];
const MALE_NAMES: [[&str; 12]; 2] = [
    ["민", "서", "도", "준", "시", "지", "현", "재", "성", "승", "동", "태"],
    ["준", "우", "호", "윤", "현", "훈", "민", "석", "진", "원", "혁", "수"],
];
const FOREIGN_NAMES: [[&str; 12]; 3] = [
    [
        "Anna", "Linh", "Mei", "Aigerim", "Sofia", "Yuki", "Priya", "Emma", "Thảo", "Olga", "Fatima", "Grace",
    ],
    [
        "John", "Minh", "Wei", "Timur", "Carlos", "Kenji", "Arjun", "Liam", "Đức", "Ivan", "Omar", "David",
    ],
    [
        "Nguyen", "Wang", "Smith", "Kim", "Tanaka", "García", "Sharma", "Müller", "Petrova", "Santos", "Lee", "Brown",
    ],
];

/// A patient as generated.
#[derive(Debug, PartialEq)]
pub struct DemoPatient {
    pub chart_no: String,
    pub name: String,
    pub phone: Option<String>,
    pub birth_date: Option<NaiveDate>,
    pub birth_year: Option<i32>,
    pub sex: Sex,
    pub registered_on: NaiveDate,
}

impl From<DemoPatient> for PatientDraft {
    fn from(patient: DemoPatient) -> Self {
        Self {
            chart_no: Some(patient.chart_no),
            name: Patch::Put(patient.name),
            phone: patient.phone.into(),
            birth_date: patient.birth_date.into(),
            birth_year: patient.birth_year.into(),
            sex: Some(patient.sex),
            registered_on: Patch::Put(patient.registered_on),
            ..Self::default()
        }
    }
}

/// A visit as generated.
#[derive(Debug, PartialEq)]
pub struct DemoVisit {
    pub visit_no: String,
    pub chart_no: String,
    pub date: NaiveDate,
    pub scheduled_at: Option<DateTime<Utc>>,
    pub status: VisitStatus,
    pub department: String,
    pub doctor: String,
    pub channel: VisitChannel,
}

impl From<DemoVisit> for VisitDraft<String> {
    fn from(visit: DemoVisit) -> Self {
        Self {
            visit_no: Patch::Put(visit.visit_no),
            patient: Some(visit.chart_no),
            date: Some(visit.date),
            scheduled_at: visit.scheduled_at.into(),
            status: Some(visit.status),
            department: Patch::Put(visit.department),
            doctor: Patch::Put(visit.doctor),
            channel: Some(visit.channel),
            ..Self::default()
        }
    }
}

/// A hospital's patients in the order of registration, and visits in the order in which they were first recorded.
pub struct DemoHospital {
    pub patients: Vec<DemoPatient>,
    pub visits: Vec<DemoVisit>,
}

/// Generates a hospital with so many patients, as it is before noon of `today` in Seoul.
#[must_use]
pub fn generate(seed: u64, today: NaiveDate, patients: usize) -> DemoHospital {
    let mut generator = Generator {
        random: Random(seed),
        today,
        doctors: Vec::new(),
    };
    generator.doctors = generator.random.doctors();
    let mut people: Vec<_> = (0..patients).map(|_| generator.patient()).collect();
    people.sort_by_key(|(patient, _)| patient.registered_on);
    let mut hospital = DemoHospital {
        patients: Vec::with_capacity(patients),
        visits: Vec::new(),
    };
    let mut bookings = Vec::new();
    for (number, (mut patient, mut booked)) in (1_u32..).zip(people) {
        patient.chart_no = format!("{number:06}");
        for booking in &mut booked {
            booking.visit.chart_no.clone_from(&patient.chart_no);
        }
        bookings.append(&mut booked);
        hospital.patients.push(patient);
    }
    bookings.sort_by_key(|booking| (booking.on, booking.minute));
    for (number, Booking { mut visit, .. }) in (1_u32..).zip(bookings) {
        visit.visit_no = format!("V{number:07}");
        hospital.visits.push(visit);
    }
    hospital
}

/// A visit and when it was recorded.
struct Booking {
    on: NaiveDate,
    minute: u64,
    visit: DemoVisit,
}

struct Generator {
    random: Random,
    today: NaiveDate,
    /// The names of each department's doctors.
    doctors: Vec<Vec<String>>,
}

impl Generator {
    fn patient(&mut self) -> (DemoPatient, Vec<Booking>) {
        let department = self.random.weighted(&DEPARTMENTS.map(|department| department.share));
        let Department { ages, season, .. } = DEPARTMENTS[department];
        let registered = self.registration(season);
        let random = &mut self.random;
        let sex = [Sex::Female, Sex::Male, Sex::Unknown, Sex::Other][random.weighted(&[535, 456, 7, 2])];
        let decade = random.weighted(ages);
        let born = registered - Days::new(decade as u64 * 3_652 + random.below(3_652));
        let year_only = random.chance(BIRTH_YEAR_ONLY);
        let patient = DemoPatient {
            chart_no: String::new(),
            name: random.name(sex),
            phone: (!random.chance(NO_PHONE)).then(|| random.phone()),
            birth_date: (!year_only).then_some(born),
            birth_year: year_only.then(|| born.year()),
            sex,
            registered_on: registered,
        };
        let visits = if random.chance(NEVER_CAME) {
            Vec::new()
        } else {
            self.visits(department, registered, decade)
        };
        (patient, visits)
    }

    /// A day up to today, likelier later in the hospital's life, in the season, and on busy weekdays.
    fn registration(&mut self, season: &Season) -> NaiveDate {
        loop {
            let age = self.random.below(OPEN_FOR + 1);
            let day = self.today - Days::new(OPEN_FOR - age);
            let weekday = WEEKDAYS[day.weekday().num_days_from_monday() as usize];
            let weight = (GROWTH.0 + GROWTH.1 * age / OPEN_FOR) * season[day.month0() as usize] * weekday;
            let highest = (GROWTH.0 + GROWTH.1) * BUSIEST_MONTH * BUSIEST_WEEKDAY;
            if self.random.below(highest) < weight && is_open(day) {
                return day;
            }
        }
    }

    /// All visits of a patient, up to the last that is booked by now.
    fn visits(&mut self, mut department: usize, registered: NaiveDate, decade: usize) -> Vec<Booking> {
        let mut bookings = Vec::new();
        let random = &mut self.random;
        let loyal = random.chance(LOYAL);
        let mut channel = VisitChannel::ALL[random.weighted(&FIRST_CHANNELS)];
        let ahead = random.ahead(channel, FIRST_AHEAD);
        let mut on = registered;
        let mut date = random.open_day(registered + Days::new(ahead), self.today);
        let mut doctor = random.doctor(department);
        let mut seen_in_episode = 0;
        loop {
            let random = &mut self.random;
            let minute = random.slot(date);
            let walk_in = channel == VisitChannel::WalkIn;
            if on > self.today || walk_in && date == self.today && minute > NOW {
                return bookings;
            }
            if random.chance(OTHER_DOCTOR) {
                doctor = random.doctor(department);
            }
            let status = random.status(self.today, date, minute, channel, bookings.is_empty());
            let timed = !walk_in || random.chance(WALK_IN_WITH_TIME);
            bookings.push(Booking {
                on,
                minute: if on == date {
                    minute
                } else {
                    MORNING + random.below(9 * 60)
                },
                visit: DemoVisit {
                    visit_no: String::new(),
                    chart_no: String::new(),
                    date,
                    scheduled_at: timed.then(|| instant(date, minute)),
                    status,
                    department: DEPARTMENTS[department].name.to_owned(),
                    doctor: self.doctors[department][doctor].clone(),
                    channel,
                },
            });

            let missed = matches!(status, VisitStatus::NoShow | VisitStatus::Canceled);
            let Department { returns, gap, .. } = DEPARTMENTS[department];
            seen_in_episode += u64::from(!missed);
            let returns = if seen_in_episode > 1 { returns.1 } else { returns.0 };
            let days = if missed && random.chance(REBOOKS) {
                random.between(REBOOKED.0, REBOOKED.1)
            } else if !missed && random.chance(returns) {
                random.between(gap.0, gap.1)
            } else if loyal && random.chance(ANOTHER_EPISODE) {
                seen_in_episode = 0;
                if !random.chance(SAME_DEPARTMENT) {
                    department = random.department(decade);
                    doctor = random.doctor(department);
                }
                random.between(NEXT_EPISODE.0, NEXT_EPISODE.1)
            } else {
                return bookings;
            };
            let earliest = if missed { date } else { on };
            date = random.open_day(date + Days::new(days), self.today);
            channel = VisitChannel::ALL[random.weighted(&LATER_CHANNELS)];
            let ahead = random.ahead(channel, DEPARTMENTS[department].ahead);
            on = earliest.max(date - Days::new(ahead));
        }
    }
}

fn is_open(day: NaiveDate) -> bool {
    day.weekday() != Weekday::Sun && !HOLIDAYS.contains(&(day.month(), day.day()))
}

/// A minute of a day in Seoul as an instant.
fn instant(date: NaiveDate, minute: u64) -> DateTime<Utc> {
    date.and_time(NaiveTime::MIN).and_utc() + TimeDelta::minutes(minute as i64 - UTC_OFFSET_MINUTES as i64)
}

/// SplitMix64, and what is drawn with it.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number less than the bound.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    fn chance(&mut self, thousandths: u64) -> bool {
        self.below(1_000) < thousandths
    }

    /// A place in the weights, each as likely as its weight says.
    fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut left = self.below(weights.iter().sum());
        let passed = |weight: &&u64| left.checked_sub(**weight).map(|less| left = less).is_some();
        weights.iter().take_while(passed).count()
    }

    fn pick<'a>(&mut self, options: &[&'a str]) -> &'a str {
        options[self.below(options.len() as u64) as usize]
    }

    /// A department that treats patients of this age.
    fn department(&mut self, decade: usize) -> usize {
        self.weighted(&DEPARTMENTS.map(|department| {
            if department.ages[decade] > 0 {
                department.share
            } else {
                0
            }
        }))
    }

    /// The days from booking to visit.
    fn ahead(&mut self, channel: VisitChannel, most: u64) -> u64 {
        if channel == VisitChannel::WalkIn {
            0
        } else {
            self.below(most + 1)
        }
    }

    fn doctor(&mut self, department: usize) -> usize {
        self.below(DEPARTMENTS[department].doctors) as usize
    }

    /// The doctors' names by department; no name occurs twice.
    fn doctors(&mut self) -> Vec<Vec<String>> {
        let mut taken = Vec::new();
        for _ in 0..DEPARTMENTS.iter().map(|department| department.doctors).sum() {
            let mut name = self.korean_name(Sex::Unknown);
            while taken.contains(&name) {
                name = self.korean_name(Sex::Unknown);
            }
            taken.push(name);
        }
        DEPARTMENTS
            .iter()
            .map(|department| taken.drain(..department.doctors as usize).collect())
            .collect()
    }

    fn name(&mut self, sex: Sex) -> String {
        if !self.chance(FOREIGN) {
            return self.korean_name(sex);
        }
        let given = self.pick(&FOREIGN_NAMES[usize::from(sex == Sex::Male)]);
        format!("{given} {}", self.pick(&FOREIGN_NAMES[2]))
    }

    fn korean_name(&mut self, sex: Sex) -> String {
        let male = sex == Sex::Male || sex != Sex::Female && self.chance(500);
        let [first, second] = if male { &MALE_NAMES } else { &FEMALE_NAMES };
        let (family, first) = (FAMILY_NAMES[self.weighted(&FAMILY_WEIGHTS)], self.pick(first));
        let mut last = self.pick(second);
        while last == first {
            last = self.pick(second);
        }
        format!("{family}{first}{last}")
    }

    /// A number like a Korean mobile number that is not assigned to anybody.
    fn phone(&mut self) -> String {
        // No assigned number begins with 010-0.
        format!("+82100{:07}", self.below(10_000_000))
    }

    /// The day; where the hospital is closed, or mostly on a Saturday, one of the days after it.
    fn open_day(&mut self, mut day: NaiveDate, today: NaiveDate) -> NaiveDate {
        let saturday = self.chance(SATURDAY);
        // Also where today is a Sunday or a holiday, there is something to see.
        while day != today && (!is_open(day) || day.weekday() == Weekday::Sat && !saturday) {
            day = day + Days::new(self.between(1, 5));
        }
        day
    }

    /// A minute of the day at which an appointment can begin: before or after noon, on Saturdays before.
    fn slot(&mut self, date: NaiveDate) -> u64 {
        let afternoon = date.weekday() != Weekday::Sat && self.chance(500);
        let opens = if afternoon { AFTERNOON } else { MORNING };
        opens + SLOT_MINUTES * self.below(SLOTS_PER_HALF_DAY)
    }

    /// The status of a visit at the current time.
    fn status(
        &mut self,
        today: NaiveDate,
        date: NaiveDate,
        minute: u64,
        channel: VisitChannel,
        new: bool,
    ) -> VisitStatus {
        let past = date < today || date == today && minute + TREATMENT < NOW;
        if !past && date == today && minute <= NOW + EARLY {
            return if minute < NOW {
                VisitStatus::InProgress
            } else {
                VisitStatus::CheckedIn
            };
        }
        let no_show = match channel {
            VisitChannel::WalkIn => 0,
            VisitChannel::App | VisitChannel::Web => NO_SHOW_ONLINE,
            _ => NO_SHOW,
        };
        let extra = if new && no_show > 0 { NO_SHOW_NEW_EXTRA } else { 0 };
        let canceled = if channel == VisitChannel::WalkIn {
            WALK_IN_LEFT
        } else {
            CANCELED
        };
        if self.chance(canceled) {
            VisitStatus::Canceled
        } else if past && self.chance(no_show + extra) {
            VisitStatus::NoShow
        } else if !past {
            if self.chance(STILL_TENTATIVE) {
                VisitStatus::Tentative
            } else {
                VisitStatus::Booked
            }
        } else if channel != VisitChannel::WalkIn && self.chance(NEVER_CLOSED) {
            VisitStatus::Booked
        } else if date == today || self.chance(LEFT_COMPLETED) {
            VisitStatus::Completed
        } else {
            VisitStatus::Ended
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::records::e164;

    fn wednesday() -> NaiveDate {
        NaiveDate::from_ymd_opt(2025, 6, 18).unwrap_or_default()
    }

    fn demo() -> DemoHospital {
        generate(1, wednesday(), 5_000)
    }

    #[test]
    fn the_same_seed_and_day_make_the_same_hospital() {
        let (one, same) = (demo(), demo());
        assert!(one.patients == same.patients && one.visits == same.visits);
        assert!(one.visits != generate(2, wednesday(), 5_000).visits);
        assert_eq!(
            Random(1_234_567).next(),
            6_457_827_717_110_365_317,
            "the published first value"
        );
    }

    #[test]
    fn every_size_and_day_works() {
        let none = generate(1, wednesday(), 0);
        assert!(none.patients.is_empty() && none.visits.is_empty());
        for days in 0..14 {
            let today = wednesday() + Days::new(days);
            assert!(
                generate(days, today, 200)
                    .visits
                    .iter()
                    .all(|visit| is_open(visit.date) || visit.date == today)
            );
        }
    }

    #[test]
    fn sizes_and_shares_are_realistic() {
        let DemoHospital { patients, visits } = generate(1, wednesday(), 25_000);
        assert_eq!(patients.len(), 25_000);
        assert!((110_000..=130_000).contains(&visits.len()), "{}", visits.len());
        let past = visits.iter().filter(|visit| visit.date < wednesday()).count();
        let share = |status| 1_000 * visits.iter().filter(|visit| visit.status == status).count() / past;
        assert!(
            (65..=95).contains(&share(VisitStatus::NoShow)),
            "{}",
            share(VisitStatus::NoShow)
        );
        assert!(
            (45..=75).contains(&share(VisitStatus::Canceled)),
            "{}",
            share(VisitStatus::Canceled)
        );
        let year = |ago: u64| {
            let days = wednesday() - Days::new(365 * ago + 365)..wednesday() - Days::new(365 * ago);
            visits.iter().filter(|visit| days.contains(&visit.date)).count()
        };
        assert!(year(2) < year(1) && year(1) < year(0));
    }

    #[test]
    fn departments_differ_in_how_many_patients_return() {
        let visits = demo().visits;
        let mut attended: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for visit in visits.iter().filter(|visit| visit.status.attended()) {
            *attended
                .entry(&visit.department)
                .or_default()
                .entry(&visit.chart_no)
                .or_default() += 1;
        }
        assert_eq!(attended.len(), DEPARTMENTS.len());
        let once = |name: &str| {
            let counts = &attended[name];
            100 * counts.values().filter(|visits| **visits == 1).count() / counts.len()
        };
        assert!(
            once("Physiotherapy") < 30 && once("Dermatology") > 35,
            "the departments differ in how many patients never return"
        );
    }

    #[test]
    fn dates_and_times_are_within_bounds() {
        let (today, hospital) = (wednesday(), demo());
        let first = today - Days::new(OPEN_FOR);
        let registered: BTreeMap<_, _> = hospital
            .patients
            .iter()
            .map(|patient| (&patient.chart_no, patient.registered_on))
            .collect();
        for visit in &hospital.visits {
            assert!((first..=today + Days::new(56)).contains(&visit.date), "{visit:?}");
            assert!(visit.date.weekday() != Weekday::Sun);
            assert!(registered[&visit.chart_no] <= visit.date, "and the patient exists");
            let clinic = instant(visit.date, MORNING)..instant(visit.date, 18 * 60);
            assert!(visit.scheduled_at.is_none_or(|at| clinic.contains(&at)));
            assert!(visit.scheduled_at.is_some() || visit.channel == VisitChannel::WalkIn);
            let waiting = [VisitStatus::CheckedIn, VisitStatus::InProgress].contains(&visit.status);
            assert!(!waiting || visit.date == today);
            assert!(visit.date <= today || !visit.status.attended() && visit.status != VisitStatus::NoShow);
        }
        assert!(hospital.visits.iter().any(|visit| visit.date > today + Days::new(28)));
        for patient in &hospital.patients {
            assert!((first..=today).contains(&patient.registered_on));
            assert!(patient.birth_date <= Some(patient.registered_on));
            assert!(patient.birth_date.is_some() != patient.birth_year.is_some());
            assert!(
                patient
                    .phone
                    .as_ref()
                    .is_none_or(|phone| e164(phone, None).as_ref() == Some(phone)),
                "{patient:?}"
            );
        }
        assert!(hospital.patients.is_sorted_by_key(|patient| patient.registered_on));
    }

    #[test]
    fn everything_occurs_and_numbers_are_unique() {
        let hospital = demo();
        let visits = &hospital.visits;
        let statuses: BTreeSet<_> = visits.iter().map(|visit| visit.status).collect();
        let channels: BTreeSet<_> = visits.iter().map(|visit| visit.channel).collect();
        assert_eq!(
            (statuses.len(), channels.len()),
            (VisitStatus::ALL.len(), VisitChannel::ALL.len())
        );
        let doctors: BTreeSet<_> = visits.iter().map(|visit| (&visit.doctor, &visit.department)).collect();
        let names: BTreeSet<_> = visits.iter().map(|visit| &visit.doctor).collect();
        assert_eq!(names.len(), doctors.len(), "a doctor is in one department");
        let charts: BTreeSet<_> = hospital.patients.iter().map(|patient| &patient.chart_no).collect();
        assert_eq!(charts.len(), hospital.patients.len());
        let numbers: BTreeSet<_> = visits.iter().map(|visit| &visit.visit_no).collect();
        assert_eq!(numbers.len(), visits.len());
        assert!(
            visits
                .iter()
                .any(|visit| visit.status == VisitStatus::Booked && visit.date < wednesday())
        );
    }
}
