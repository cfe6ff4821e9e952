//! What a count depends on of a visit.

/// Makes an enum whose variants have a stored word, in the order of the enum.
macro_rules! string_enum {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($variant),+ }

        impl $name {
            /// Every value, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word that stands in the database, in files and in the API.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value of a word; words are case-sensitive.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }

            /// The value at a place in the order.
            #[must_use]
            pub fn from_index(index: u8) -> Option<Self> {
                Self::ALL.get(usize::from(index)).copied()
            }
        }
    };
}
pub(crate) use string_enum;

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
