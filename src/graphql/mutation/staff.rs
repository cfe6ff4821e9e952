//! Departments, doctors and staff.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, SimpleObject};

use super::{BadFields, department, execute, line, never_null};
use crate::error::{Error, Result};
use crate::graphql::enums::Role;
use crate::graphql::hospital::{Department, Doctor};
use crate::graphql::staff::StaffMember;
use crate::graphql::{access, id};
use crate::password::NewPassword;
use crate::store::{AddDepartment, AddDoctor, AddStaff, ChangeDepartment, ChangeDoctor, ChangeStaff, SetPassword};

#[derive(Default)]
pub struct StaffMutation;

/// A new department.
#[derive(InputObject)]
struct AddDepartmentInput {
    /// The name, unique among the hospital's departments; 1–255 characters.
    name: String,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The department that was added.
#[derive(SimpleObject)]
struct AddDepartmentPayload {
    /// Its current state.
    department: Department,
}

/// Changes to a department. Absent fields stay unchanged.
#[derive(InputObject)]
struct ChangeDepartmentInput {
    /// The department.
    id: ID,
    /// The name, unique among the hospital's departments; 1–255 characters, not null.
    name: MaybeUndefined<String>,
    /// Whether it can no longer be booked; not null. Statistics continue to count its visits.
    retired: MaybeUndefined<bool>,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The department that was changed.
#[derive(SimpleObject)]
struct ChangeDepartmentPayload {
    /// Its current state.
    department: Department,
}

/// A new doctor.
#[derive(InputObject)]
struct AddDoctorInput {
    /// The name, unique among the hospital's doctors; 1–255 characters.
    name: String,
    /// The doctor's department.
    department_id: MaybeUndefined<ID>,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The doctor who was added.
#[derive(SimpleObject)]
struct AddDoctorPayload {
    /// Its current state.
    doctor: Doctor,
}

/// Changes to a doctor. Absent fields stay unchanged.
#[derive(InputObject)]
struct ChangeDoctorInput {
    /// The doctor.
    id: ID,
    /// The name, unique among the hospital's doctors; 1–255 characters, not null.
    name: MaybeUndefined<String>,
    /// The doctor's department; null if unknown.
    department_id: MaybeUndefined<ID>,
    /// Whether the doctor can no longer be booked; not null. Statistics continue to count the visits.
    retired: MaybeUndefined<bool>,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The doctor who was changed.
#[derive(SimpleObject)]
struct ChangeDoctorPayload {
    /// Its current state.
    doctor: Doctor,
}

/// A new member of staff.
#[derive(InputObject)]
struct AddStaffInput {
    /// The login name, unique in the hospital: 1–255 characters. It cannot be changed.
    login: String,
    /// The display name; 1–255 characters.
    name: String,
    /// The role, which determines permissions.
    role: Role,
    /// The initial password: 8–1,024 characters.
    #[graphql(secret)]
    password: String,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The member of staff who was added.
#[derive(SimpleObject)]
struct AddStaffPayload {
    /// Its current state.
    staff: StaffMember,
}

/// Changes to a member of staff. Absent fields stay unchanged.
#[derive(InputObject)]
struct ChangeStaffInput {
    /// The member of staff.
    id: ID,
    /// The display name; 1–255 characters, not null.
    name: MaybeUndefined<String>,
    /// The role; not null. A change of role ends the sessions.
    role: MaybeUndefined<Role>,
    /// Whether the account is disabled; not null. Disabling ends the sessions; access tokens stay valid until they expire.
    disabled: MaybeUndefined<bool>,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The member of staff who was changed.
#[derive(SimpleObject)]
struct ChangeStaffPayload {
    /// Its current state.
    staff: StaffMember,
}

/// A new password for a member of staff.
#[derive(InputObject)]
struct ResetPasswordInput {
    /// The member of staff.
    id: ID,
    /// The new password: 8–1,024 characters. The member of staff should change it.
    #[graphql(secret)]
    password: String,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The member of staff who has a new password.
#[derive(SimpleObject)]
struct ResetPasswordPayload {
    /// The member of staff, whose sessions have ended.
    staff: StaffMember,
}

#[Object(guard = "access::console")]
impl StaffMutation {
    /// Adds a department. For ADMIN.
    async fn add_department(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new department.")] input: AddDepartmentInput,
    ) -> Result<AddDepartmentPayload> {
        let mut bad = BadFields::default();
        let name = bad.check(line("input.name", &input.name))?;
        let id = execute(ctx, bad, &AddDepartment { name }, input.idempotency_key).await?;
        let department = Department::read(ctx, id).await?;
        Ok(AddDepartmentPayload { department })
    }

    /// Renames or retires a department. For ADMIN.
    async fn change_department(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The department and the changes.")] input: ChangeDepartmentInput,
    ) -> Result<ChangeDepartmentPayload> {
        let mut bad = BadFields::default();
        let name = bad.check(never_null("input.name", input.name))?;
        let command = ChangeDepartment {
            id: bad.check(id::department("input.id", &input.id))?,
            name: bad.check(name.map(|name| line("input.name", &name)).transpose())?,
            retired: bad.check(never_null("input.retired", input.retired))?,
        };
        let id = execute(ctx, bad, &command, input.idempotency_key).await?;
        let department = Department::read(ctx, id).await?;
        Ok(ChangeDepartmentPayload { department })
    }

    /// Adds a doctor. For ADMIN.
    async fn add_doctor(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new doctor.")] input: AddDoctorInput,
    ) -> Result<AddDoctorPayload> {
        let mut bad = BadFields::default();
        let command = AddDoctor {
            name: bad.check(line("input.name", &input.name))?,
            department: bad
                .check(department(ctx, input.department_id).await)?
                .given()
                .flatten()
                .copied(),
        };
        let id = execute(ctx, bad, &command, input.idempotency_key).await?;
        let doctor = Doctor::read(ctx, id).await?;
        Ok(AddDoctorPayload { doctor })
    }

    /// Renames a doctor, moves the doctor to another department, or retires the doctor. For ADMIN.
    async fn change_doctor(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The doctor and the changes.")] input: ChangeDoctorInput,
    ) -> Result<ChangeDoctorPayload> {
        let mut bad = BadFields::default();
        let name = bad.check(never_null("input.name", input.name))?;
        let command = ChangeDoctor {
            id: bad.check(id::doctor("input.id", &input.id))?,
            name: bad.check(name.map(|name| line("input.name", &name)).transpose())?,
            department: bad.check(department(ctx, input.department_id).await)?,
            retired: bad.check(never_null("input.retired", input.retired))?,
        };
        let id = execute(ctx, bad, &command, input.idempotency_key).await?;
        let doctor = Doctor::read(ctx, id).await?;
        Ok(ChangeDoctorPayload { doctor })
    }

    /// Adds a member of staff. For ADMIN.
    async fn add_staff(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new member of staff.")] input: AddStaffInput,
    ) -> Result<AddStaffPayload> {
        let mut bad = BadFields::default();
        let login = bad.check(line("input.login", &input.login))?;
        let name = bad.check(line("input.name", &input.name))?;
        let password = NewPassword::hashed("input.password", input.password).await;
        let Some(password) = bad.take(password)? else {
            return Err(bad.error());
        };
        let role = input.role.into();
        let command = AddStaff {
            login,
            name,
            role,
            password,
        };
        let id = execute(ctx, bad, &command, input.idempotency_key).await?;
        let staff = member(ctx, id).await?;
        Ok(AddStaffPayload { staff })
    }

    /// Renames a member of staff, changes the role, disables or enables the account. One enabled ADMIN must remain. For
    /// ADMIN.
    async fn change_staff(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The member of staff and the changes.")] input: ChangeStaffInput,
    ) -> Result<ChangeStaffPayload> {
        let mut bad = BadFields::default();
        let name = bad.check(never_null("input.name", input.name))?;
        let command = ChangeStaff {
            id: bad.check(id::staff("input.id", &input.id))?,
            name: bad.check(name.map(|name| line("input.name", &name)).transpose())?,
            role: bad.check(never_null("input.role", input.role))?.map(Into::into),
            disabled: bad.check(never_null("input.disabled", input.disabled))?,
        };
        let id = execute(ctx, bad, &command, input.idempotency_key).await?;
        let staff = member(ctx, id).await?;
        Ok(ChangeStaffPayload { staff })
    }

    /// Sets a new password for a member of staff, whose sessions end. Everybody changes their own with changePassword. For ADMIN.
    async fn reset_password(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The member of staff and the new password.")] input: ResetPasswordInput,
    ) -> Result<ResetPasswordPayload> {
        let mut bad = BadFields::default();
        let id = bad.check(id::staff("input.id", &input.id))?;
        let password = NewPassword::hashed("input.password", input.password).await;
        let Some(password) = bad.take(password)? else {
            return Err(bad.error());
        };
        let command = SetPassword {
            id,
            password,
            verified: None,
        };
        let id = execute(ctx, bad, &command, input.idempotency_key).await?;
        let staff = member(ctx, id).await?;
        Ok(ResetPasswordPayload { staff })
    }
}

async fn member(ctx: &Context<'_>, id: i64) -> Result<StaffMember> {
    let found = StaffMember::find(ctx, id).await?;
    found.ok_or_else(|| Error::Internal("a member of staff who was just changed is gone".to_owned()))
}
