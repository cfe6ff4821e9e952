//! Departments, doctors and staff.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, SimpleObject};

use super::{BadFields, department, execute, line, never_null};
use crate::error::{Error, Result};
use crate::graphql::enums::Role;
use crate::graphql::hospital::{Department, Doctor};
use crate::graphql::id;
use crate::graphql::staff::StaffMember;
use crate::password::NewPassword;
use crate::store::{AddDepartment, AddDoctor, AddStaff, ChangeDepartment, ChangeDoctor, ChangeStaff, SetPassword};

#[derive(Default)]
pub struct StaffMutation;

/// A department to be.
#[derive(InputObject)]
struct AddDepartmentInput {
    /// 1 to 255 characters, which no other department of the hospital has.
    name: String,
    /// 1 to 255 characters of the sender's making: a change that is sent again under its key is made once. Good for 7 days.
    idempotency_key: Option<String>,
}

/// The department that was added.
#[derive(SimpleObject)]
struct AddDepartmentPayload {
    /// As it now stands.
    department: Department,
}

/// What is to be different of a department. What is absent stays.
#[derive(InputObject)]
struct ChangeDepartmentInput {
    /// Which department.
    id: ID,
    /// 1 to 255 characters, which no other department of the hospital has; never null.
    name: MaybeUndefined<String>,
    /// Whether it is no longer there to be booked; never null. Statistics go on counting its visits.
    retired: MaybeUndefined<bool>,
    /// 1 to 255 characters of the sender's making: a change that is sent again under its key is made once. Good for 7 days.
    idempotency_key: Option<String>,
}

/// The department that was changed.
#[derive(SimpleObject)]
struct ChangeDepartmentPayload {
    /// As it now stands.
    department: Department,
}

/// A doctor to be.
#[derive(InputObject)]
struct AddDoctorInput {
    /// 1 to 255 characters, which no other doctor of the hospital has.
    name: String,
    /// Where the doctor works.
    department_id: MaybeUndefined<ID>,
    /// 1 to 255 characters of the sender's making: a change that is sent again under its key is made once. Good for 7 days.
    idempotency_key: Option<String>,
}

/// The doctor who was added.
#[derive(SimpleObject)]
struct AddDoctorPayload {
    /// As it now stands.
    doctor: Doctor,
}

/// What is to be different of a doctor. What is absent stays.
#[derive(InputObject)]
struct ChangeDoctorInput {
    /// Which doctor.
    id: ID,
    /// 1 to 255 characters, which no other doctor of the hospital has; never null.
    name: MaybeUndefined<String>,
    /// Where the doctor works; null where unknown.
    department_id: MaybeUndefined<ID>,
    /// Whether the doctor is no longer there to be booked; never null. Statistics go on counting the visits.
    retired: MaybeUndefined<bool>,
    /// 1 to 255 characters of the sender's making: a change that is sent again under its key is made once. Good for 7 days.
    idempotency_key: Option<String>,
}

/// The doctor who was changed.
#[derive(SimpleObject)]
struct ChangeDoctorPayload {
    /// As it now stands.
    doctor: Doctor,
}

/// A member of staff to be.
#[derive(InputObject)]
struct AddStaffInput {
    /// The name to sign in with: 1 to 255 characters, which nobody else of the hospital has. It never changes.
    login: String,
    /// The name that people read; 1 to 255 characters.
    name: String,
    /// What the member may do.
    role: Role,
    /// The first password: 8 to 1,024 characters.
    #[graphql(secret)]
    password: String,
    /// 1 to 255 characters of the sender's making: a change that is sent again under its key is made once. Good for 7 days.
    idempotency_key: Option<String>,
}

/// The member of staff who was added.
#[derive(SimpleObject)]
struct AddStaffPayload {
    /// As it now stands.
    staff: StaffMember,
}

/// What is to be different of a member of staff. What is absent stays.
#[derive(InputObject)]
struct ChangeStaffInput {
    /// Which member.
    id: ID,
    /// The name that people read; 1 to 255 characters, never null.
    name: MaybeUndefined<String>,
    /// What the member may do; never null. Sessions end with another role.
    role: MaybeUndefined<Role>,
    /// Whether the account is disabled; never null. Sessions end with it, the last access token within 15 minutes.
    disabled: MaybeUndefined<bool>,
    /// 1 to 255 characters of the sender's making: a change that is sent again under its key is made once. Good for 7 days.
    idempotency_key: Option<String>,
}

/// The member of staff who was changed.
#[derive(SimpleObject)]
struct ChangeStaffPayload {
    /// As it now stands.
    staff: StaffMember,
}

/// A new password for a member of staff.
#[derive(InputObject)]
struct ResetPasswordInput {
    /// Which member.
    id: ID,
    /// The password from now on: 8 to 1,024 characters. The member should change it.
    #[graphql(secret)]
    password: String,
    /// 1 to 255 characters of the sender's making: a change that is sent again under its key is made once. Good for 7 days.
    idempotency_key: Option<String>,
}

/// The member of staff who has a new password.
#[derive(SimpleObject)]
struct ResetPasswordPayload {
    /// The member, whose sessions have ended.
    staff: StaffMember,
}

#[Object]
impl StaffMutation {
    /// Adds a department. For ADMIN.
    async fn add_department(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which department.")] input: AddDepartmentInput,
    ) -> Result<AddDepartmentPayload> {
        let mut bad = BadFields::default();
        let name = bad.check(line("input.name", &input.name))?;
        let id = execute(ctx, bad, &AddDepartment { name }, input.idempotency_key).await?;
        let department = Department::read(ctx, id).await?;
        Ok(AddDepartmentPayload { department })
    }

    /// Renames a department, or retires it. For ADMIN.
    async fn change_department(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which department, and what.")] input: ChangeDepartmentInput,
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
        #[graphql(desc = "Who.")] input: AddDoctorInput,
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

    /// Renames a doctor, moves to another department, or retires. For ADMIN.
    async fn change_doctor(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who, and what.")] input: ChangeDoctorInput,
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
        #[graphql(desc = "Who.")] input: AddStaffInput,
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

    /// Renames a member of staff, gives another role, disables or enables the account. The last enabled ADMIN stays one. For
    /// ADMIN.
    async fn change_staff(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who, and what.")] input: ChangeStaffInput,
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
        #[graphql(desc = "Who, and which password.")] input: ResetPasswordInput,
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
