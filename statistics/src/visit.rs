//! What a count depends on of a visit.

use string_enum::string_enum;

string_enum!(
    /// How far a visit got.
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
    /// Whether the patient was treated: COMPLETED and ENDED, no other.
    #[must_use]
    pub const fn attended(self) -> bool {
        matches!(self, Self::Completed | Self::Ended)
    }

    /// Whether only a visit whose day has come can have got this far.
    #[must_use]
    pub const fn needs_its_day(self) -> bool {
        self.attended() || matches!(self, Self::CheckedIn | Self::InProgress | Self::NoShow)
    }

    /// Whether nothing more will come of the visit: a change of it is a correction.
    #[must_use]
    pub const fn is_over(self) -> bool {
        self.attended() || matches!(self, Self::Canceled | Self::NoShow)
    }
}

string_enum!(
    /// How a visit came to be.
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
