//! Statuses and channels of visits.

use string_enum::string_enum;

string_enum!(
    /// The progress of a visit.
    VisitStatus {
        Tentative = "TENTATIVE",
        Booked = "BOOKED",
        CheckedIn = "CHECKED_IN",
        InProgress = "IN_PROGRESS",
        Completed = "COMPLETED",
        Ended = "ENDED",
        Canceled = "CANCELED",
        NoShow = "NO_SHOW",
    }
);

impl VisitStatus {
    /// Whether a visit with this status is attended. Everything else in this crate follows from this definition.
    #[must_use]
    pub const fn attended(self) -> bool {
        matches!(self, Self::Completed | Self::Ended)
    }

    /// Whether a visit dated in the future cannot have this status.
    #[must_use]
    pub const fn excludes_future_dates(self) -> bool {
        self.attended() || matches!(self, Self::CheckedIn | Self::InProgress | Self::NoShow)
    }

    /// Whether the status is final, so that a later change of the visit is a correction.
    #[must_use]
    pub const fn is_final(self) -> bool {
        self.attended() || matches!(self, Self::Canceled | Self::NoShow)
    }
}

string_enum!(
    /// The channel by which a visit was booked; WALK_IN without a booking.
    VisitChannel {
        WalkIn = "WALK_IN",
        Phone = "PHONE",
        App = "APP",
        Web = "WEB",
        Qr = "QR",
        Tablet = "TABLET",
        Other = "OTHER",
    }
);
