//! Enums of the API, and their counterparts below it.

use async_graphql::Enum;

use crate::error::{Error, Result};
use crate::{permissions, records, reporting, scheduling, statistics, store};

/// The calendar unit of a bucket. Weeks start on the hospital's weekStart.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "statistics::Period")]
pub(super) enum Period {
    /// One day.
    Day,
    /// Seven days from the hospital's weekStart.
    Week,
    /// A calendar month.
    Month,
    /// Three calendar months from January, April, July or October.
    Quarter,
    /// A calendar year.
    Year,
}

/// The day that a hospital's weeks start on.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "statistics::WeekStart")]
pub(super) enum WeekStart {
    /// As ISO 8601 has it.
    Monday,
    /// As in Korea, Japan or the United States.
    Sunday,
}

/// The direction of an order. Nulls come last in both directions; ties are ordered by id, ascending.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum OrderDirection {
    /// Ascending.
    #[default]
    Asc,
    /// Descending.
    Desc,
}

/// The progress of a visit. Lists sorted by status use this order.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "statistics::VisitStatus")]
pub(super) enum VisitStatus {
    /// Held for the patient, not confirmed yet.
    Tentative,
    /// Confirmed. Past overdueAfterDays it counts as a no-show.
    Booked,
    /// The patient has arrived.
    CheckedIn,
    /// The patient is being treated.
    InProgress,
    /// Treatment done: an attended visit.
    Completed,
    /// Treated, and the visit is closed: an attended visit.
    Ended,
    /// Canceled.
    Canceled,
    /// The patient did not come.
    NoShow,
}

/// A day of the week.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "scheduling::Weekday")]
pub(super) enum Weekday {
    /// Monday.
    Monday,
    /// Tuesday.
    Tuesday,
    /// Wednesday.
    Wednesday,
    /// Thursday.
    Thursday,
    /// Friday.
    Friday,
    /// Saturday.
    Saturday,
    /// Sunday.
    Sunday,
}

/// Whether a slot can be booked.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "scheduling::SlotState")]
pub(super) enum SlotState {
    /// Nothing takes any of its time.
    Free,
    /// A visit that is TENTATIVE and has not lapsed, BOOKED, CHECKED_IN or IN_PROGRESS takes some of its time.
    Taken,
}

/// Why two patients may be the same person.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "scheduling::MatchReason")]
pub(super) enum MatchReason {
    /// The same phone number. Relatives may share one.
    SamePhone,
    /// The same name, regardless of case, width and spaces, and the same birth date.
    SameNameAndBirthDate,
    /// The last four digits of the phone are the same, and few letters of the names differ.
    SimilarNameAndSamePhoneEnding,
}

/// The channel by which a visit was booked; WALK_IN without a booking.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "statistics::VisitChannel")]
pub(super) enum VisitChannel {
    /// The patient came without an appointment.
    WalkIn,
    /// By telephone.
    Phone,
    /// In an app.
    App,
    /// On a web page.
    Web,
    /// By scanning a QR code.
    Qr,
    /// On a tablet in the hospital.
    Tablet,
    /// In another way, or not known.
    Other,
}

/// A patient's sex as recorded.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "records::Sex")]
pub(super) enum Sex {
    /// Female.
    Female,
    /// Male.
    Male,
    /// Neither.
    Other,
    /// Not recorded.
    Unknown,
}

/// The state of a patient's record.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "store::RecordState")]
pub(super) enum RecordState {
    /// In use.
    Active,
    /// Merged into the record of the same person, mergedInto; older snapshots still list it.
    Merged,
    /// Erased: personal data is deleted, and only what counts need is left.
    Erased,
}

/// The role of a member of staff.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "permissions::Role")]
pub(super) enum Role {
    /// Everything in the hospital.
    Admin,
    /// Reads everything in full; pins snapshots.
    Clinician,
    /// Reads everything in full; books, checks in, corrects.
    Desk,
    /// Reads everything, with patients masked; changes nothing.
    Support,
    /// A device at the door: confirms and checks in by code, and may do nothing else.
    Kiosk,
}

/// What a code of a visit is for.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "scheduling::VisitCodePurpose")]
pub(super) enum VisitCodePurpose {
    /// To confirm a TENTATIVE booking: confirmVisit.
    Confirm,
    /// To check in on the day of the visit: checkInVisit.
    CheckIn,
}

/// The kind of a list of patients and visits.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
pub(super) enum CohortKind {
    /// Patients with an attended visit in the bucket: NEW and RETURNING together.
    Visitors,
    /// Visitors whose first attended visit, anywhere in the hospital, lies in the bucket and passes the filter.
    New,
    /// Visitors who are not NEW: they first came earlier, or by a visit outside the filter.
    Returning,
    /// NEW patients of the bucket who have been silent for churnAfterDays or more, at asOf.
    ChurnSuspected,
    /// NEW patients of the bucket who came back on a later day and are not suspected, at asOf.
    Retained,
    /// NEW patients of the bucket who have not come back and for whom it is too early to tell, at asOf.
    Pending,
    /// Patients with a no-show in the bucket.
    NoShow,
    /// Patients with a canceled visit in the bucket.
    Canceled,
    /// A list that is made of others, by a condition or as a set. No kind that a bucket has: as an argument it is refused.
    Derived,
}

impl From<statistics::CohortKind> for CohortKind {
    fn from(kind: statistics::CohortKind) -> Self {
        match kind {
            statistics::CohortKind::Visitors => Self::Visitors,
            statistics::CohortKind::New => Self::New,
            statistics::CohortKind::Returning => Self::Returning,
            statistics::CohortKind::ChurnSuspected => Self::ChurnSuspected,
            statistics::CohortKind::Retained => Self::Retained,
            statistics::CohortKind::Pending => Self::Pending,
            statistics::CohortKind::NoShow => Self::NoShow,
            statistics::CohortKind::Canceled => Self::Canceled,
        }
    }
}

impl From<store::ListKind> for CohortKind {
    fn from(kind: store::ListKind) -> Self {
        match kind {
            store::ListKind::Cohort(kind) => kind.into(),
            store::ListKind::Derived => Self::Derived,
        }
    }
}

impl CohortKind {
    /// The kind of a bucket's cohort, which the argument `kind` names.
    pub(super) fn counted(self) -> Result<statistics::CohortKind> {
        let kinds = statistics::CohortKind::ALL.iter().copied();
        let found = kinds.clone().find(|&kind| Self::from(kind) == self);
        found.ok_or_else(|| {
            let words: Vec<&str> = kinds.map(statistics::CohortKind::as_str).collect();
            Error::input(
                "kind",
                format!("a bucket has no such list; it has {}", words.join(", ")),
            )
        })
    }
}

/// What a list is divided by.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "reporting::PartDimension")]
pub(super) enum BreakdownDimension {
    /// Patients by sex, as recorded when the list was first divided so. The parts share no patient.
    Sex,
    /// Patients by age on asOf: 0-9, 10-19, … 80-89, 90 and older, unknown; by the birth years recorded when the list was first divided so.
    /// The age is the year of asOf less the year of birth.
    AgeBand,
    /// Visits by department, as counted. The parts share no visit; a patient may be in several. Visits without one are a part of their own.
    Department,
    /// Visits by doctor, as counted; otherwise as DEPARTMENT.
    Doctor,
    /// Visits by channel, as counted; a patient may be in several parts.
    Channel,
    /// Visits by the day of the week, from Monday; a patient may be in several parts.
    Weekday,
}

/// What came of a contact with a patient on a recall list.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "scheduling::ContactOutcome")]
pub(super) enum ContactOutcome {
    /// The patient was reached, and did not book yet.
    Reached,
    /// The patient booked a visit.
    Booked,
    /// Nobody answered.
    NoAnswer,
    /// The patient does not want to come.
    Declined,
    /// The number is somebody else's, or out of service.
    WrongNumber,
}

/// Why a patient of the cohort is not on the recall list: the first that holds, in this order, when the list was made. All but the first two
/// are about the patient who stays where records were merged.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "scheduling::LeftOutReason")]
pub(super) enum RecallLeftOutReason {
    /// Erased or deleted since the cohort was counted.
    NotActive,
    /// Merged with another patient of the cohort, who stands for both; also since the list was made.
    Duplicate,
    /// Came since: an attended visit after the cohort's asOf, or on that day if the cohort was counted before it was attended.
    CameSince,
    /// Has a TENTATIVE or BOOKED visit today or later, if withoutNextVisit.
    HasNextVisit,
    /// Does not want to be contacted.
    DoNotContact,
    /// Has no phone, if withPhone.
    NoPhone,
}

/// The sort keys of patients.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "crate::store::PatientKey")]
pub(super) enum PatientOrderField {
    /// The name, by Unicode code point. Not for SUPPORT.
    Name,
    /// The chart number, as text, by Unicode code point.
    ChartNo,
    /// The day of registration.
    RegisteredOn,
    /// The first attended visit: of a cohort as counted, of other lists up to today.
    FirstVisit,
    /// The last attended visit: of a cohort as counted, of other lists up to today.
    LastVisit,
}

/// The sort keys of visits.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "crate::store::VisitKey")]
pub(super) enum VisitOrderField {
    /// The day of the visit.
    Date,
    /// The patient's name, by Unicode code point. Not for SUPPORT.
    PatientName,
    /// The status, in the order of VisitStatus.
    Status,
    /// The start time; visits without a time of day are last.
    ScheduledAt,
    /// When the visit became CHECKED_IN; visits that were not checked in are last. The waiting room, in order.
    CheckedInAt,
}

/// Why a patient entered or left a cohort between two snapshots.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "statistics::ReasonKind")]
pub(super) enum ChangeReasonKind {
    /// A visit was recorded after the older snapshot.
    Recorded,
    /// A visit was changed in another way: its date, department, patient or status.
    Corrected,
    /// A visit that was attended is not any more: it was canceled, or made a no-show, or opened again.
    Voided,
    /// A visit was deleted.
    Deleted,
    /// A visit was moved to another patient by a merge, or by undoing one.
    Merged,
    /// The snapshots were computed with different rules.
    DefinitionChanged,
    /// The snapshots have different values of asOf.
    TimePassed,
    /// The range is another, so the total has other days. Units of which the two have different days are not compared: they are in
    /// onlyBefore and onlyAfter.
    RangeMoved,
    /// The data that the snapshots were computed from cannot be reconstructed, so the reason is unknown.
    Unknown,
}

/// The rule that decided whether a patient is in a cohort of a bucket.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
pub(super) enum MembershipRule {
    /// There is an attended visit that counts.
    Attended,
    /// The patient's first visit is one of those that count here: NEW.
    FirstVisitHere,
    /// The first visit is earlier: RETURNING, not NEW here.
    FirstVisitEarlier,
    /// The first visit is here and does not match the filter: RETURNING, not NEW.
    FirstVisitFilteredOut,
    /// NEW, and without a visit for churnAfterDays or more: CHURN_SUSPECTED.
    Silent,
    /// NEW, with a visit within churnAfterDays, and came again on a later day: RETAINED.
    CameAgain,
    /// NEW, within churnAfterDays of the only day attended so far: PENDING.
    NotYetAgain,
    /// There is a visit with status NO_SHOW that counts.
    NoShow,
    /// There is a visit, still BOOKED, that is overdueAfterDays or more past its date.
    Overdue,
    /// There is a visit, still BOOKED, that is fewer days than overdueAfterDays past its date.
    NotOverdueYet,
    /// There is a canceled visit that counts.
    Canceled,
    /// The visits that would count do not match the filter.
    FilteredOut,
    /// The visits that would count are dated after asOf.
    AfterAsOf,
    /// The visits that would count lie in the calendar unit, but outside the range.
    OutsideRange,
    /// The visits here have other statuses.
    OtherStatus,
    /// There is no visit here.
    NoVisit,
    /// The list is a derived one: the text says how the patient stands in the lists that it was made of.
    Derived,
    /// The data that the snapshot was computed from cannot be reconstructed, so the reason is unknown.
    Unknown,
}

impl From<statistics::MembershipRule> for MembershipRule {
    fn from(rule: statistics::MembershipRule) -> Self {
        use statistics::MembershipRule as Rule;
        match rule {
            Rule::Attended => Self::Attended,
            Rule::FirstVisitHere => Self::FirstVisitHere,
            Rule::FirstVisitEarlier => Self::FirstVisitEarlier,
            Rule::FirstVisitFilteredOut => Self::FirstVisitFilteredOut,
            Rule::Silent => Self::Silent,
            Rule::CameAgain => Self::CameAgain,
            Rule::NotYetAgain => Self::NotYetAgain,
            Rule::NoShow => Self::NoShow,
            Rule::Overdue => Self::Overdue,
            Rule::NotOverdueYet => Self::NotOverdueYet,
            Rule::Canceled => Self::Canceled,
            Rule::FilteredOut => Self::FilteredOut,
            Rule::AfterAsOf => Self::AfterAsOf,
            Rule::OutsideRange => Self::OutsideRange,
            Rule::OtherStatus => Self::OtherStatus,
            Rule::NoVisit => Self::NoVisit,
        }
    }
}
