//! Codes of visits: issued, and used to confirm and check in.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::{BadFields, execute};
use crate::error::Result;
use crate::graphql::enums::VisitCodePurpose;
use crate::graphql::kiosk::KioskVisit;
use crate::graphql::scalars::DateTime;
use crate::graphql::{access, context, id};
use crate::scheduling;
use crate::store::{IssueVisitCode, UseVisitCode};

#[derive(Default)]
pub struct VisitCodeMutation;

/// The visit that a code is for.
#[derive(InputObject)]
struct IssueVisitCodeInput {
    /// The visit; to confirm, it must be TENTATIVE and not have lapsed; to check in, it must be that, or BOOKED, and its day not over.
    visit_id: ID,
    /// What the code is for.
    purpose: VisitCodePurpose,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once, and returns the same
    /// code again. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The new code.
#[derive(SimpleObject)]
struct IssueVisitCodePayload {
    /// For the patient, as text or QR: 27 digits and letters in groups of five. It can be used once. Earlier codes of this visit and
    /// purpose are void from now on.
    code: String,
    /// When it can no longer be used: to confirm, when the booking lapses, or without such a time at the end of its day; to check in, 12
    /// hours after the end of the visit's day.
    expires_at: DateTime,
}

/// The code that the patient shows or enters.
#[derive(InputObject)]
struct VisitCodeInput {
    /// The code, in any case, with or without hyphens and blanks; O is read as 0, I and L as 1.
    #[graphql(secret)]
    code: String,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The visit whose code was used.
#[derive(SimpleObject)]
struct VisitCodePayload {
    /// What a kiosk shows of it.
    visit: KioskVisit,
}

#[Object(guard = "access::console")]
impl VisitCodeMutation {
    /// Issues a code by which a patient confirms or checks in; earlier codes of the visit and purpose are void. For ADMIN and DESK.
    async fn issue_visit_code(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The visit, and what the code is for.")] input: IssueVisitCodeInput,
    ) -> Result<IssueVisitCodePayload> {
        let mut bad = BadFields::default();
        let command = IssueVisitCode {
            visit: bad.check(id::visit("input.visitId", &input.visit_id))?,
            purpose: input.purpose.into(),
        };
        let counter = execute(ctx, bad, &command, input.idempotency_key).await?;
        let hospital = context::viewer(ctx)?.hospital;
        let store = &context::services(ctx)?.store;
        let issued = store
            .issued_code(hospital, command.visit, command.purpose, counter)
            .await?;
        Ok(IssueVisitCodePayload {
            code: issued.code.to_string(),
            expires_at: DateTime(issued.expires_at),
        })
    }

    /// Confirms a visit by the code that the patient was given: TENTATIVE becomes BOOKED. If the code cannot be used, for whatever
    /// reason, the error is INVALID_CODE. For ADMIN, DESK and KIOSK.
    #[graphql(guard = "access::any_role")]
    async fn confirm_visit(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The code.")] input: VisitCodeInput,
    ) -> Result<VisitCodePayload> {
        use_code(ctx, scheduling::VisitCodePurpose::Confirm, input).await
    }

    /// Checks in a visit on its day by the code that the patient shows: BOOKED becomes CHECKED_IN. If the code cannot be used, for
    /// whatever reason, the error is INVALID_CODE. For ADMIN, DESK and KIOSK.
    #[graphql(guard = "access::any_role")]
    async fn check_in_visit(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The code.")] input: VisitCodeInput,
    ) -> Result<VisitCodePayload> {
        use_code(ctx, scheduling::VisitCodePurpose::CheckIn, input).await
    }
}

async fn use_code(
    ctx: &Context<'_>,
    purpose: scheduling::VisitCodePurpose,
    input: VisitCodeInput,
) -> Result<VisitCodePayload> {
    let command = UseVisitCode {
        purpose,
        code: input.code.parse().ok(),
    };
    let id = execute(ctx, BadFields::default(), &command, input.idempotency_key).await?;
    let visit = KioskVisit::load(ctx, id).await?;
    Ok(VisitCodePayload { visit })
}
