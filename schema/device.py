"""Devices of users, and what they show: types, root queries and mutations."""

from datetime import datetime
from typing import Annotated, Any

import strawberry

from models.enums import DevicePlatform
from resolvers import devices
from schema.common import INPUT, log_cursor, mutate
from schema.context import Info
from schema.user_mutations import SitePayload

TaskId = Annotated[strawberry.ID, strawberry.argument(description="Which task.")]
DeviceId = Annotated[strawberry.ID, strawberry.argument(description="Which of your devices.")]


@strawberry.type(description="A device of yours that can be notified. Its token is never shown.")
class Device:
    """See models.Device."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    platform: DevicePlatform = strawberry.field(description="Whose push service it listens to.")
    created_at: datetime = strawberry.field(description="When it was first registered.")
    last_seen_at: datetime = strawberry.field(description="When it was last registered.")


@strawberry.type(description="A device after a mutation.")
class DevicePayload(SitePayload):
    """What registerDevice returns."""

    device: Device = strawberry.field(description="The device as it is now.")


@strawberry.type(description="A device that is forgotten.")
class UnregisterDevicePayload(SitePayload):
    """What unregisterDevice returns."""

    was_registered: bool = strawberry.field(description="Whether it was known.")


@strawberry.type(description="What a device shows.")
class WatchTaskPayload:
    """What watchTask returns."""

    workspace_id: strawberry.Private[str]
    expires_at: datetime = strawberry.field(description="Until when, unless it is said again.")

    @strawberry.field(description="Subscribe after this cursor to miss nothing that follows.")
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.workspace_id)


@strawberry.type(description="What a device shows no more.")
class UnwatchTaskPayload:
    """What unwatchTask returns."""

    workspace_id: strawberry.Private[str]
    task_id: strawberry.ID = strawberry.field(description="The task.")

    @strawberry.field(description="Subscribe after this cursor to miss nothing that follows.")
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.workspace_id)


@strawberry.input(description="A device of yours.")
class RegisterDeviceInput:
    """Arguments of resolvers.devices.register_device."""

    token: str = strawberry.field(
        description="What its push service calls it, 1 to 512 characters."
    )
    platform: DevicePlatform = strawberry.field(description="Whose push service that is.")


@strawberry.type
class DeviceQuery:
    """Root fields about devices."""

    @strawberry.field(
        description="Your devices, the one seen last first: at most 20.",
        metadata={"list_size": devices.DEVICES_PER_USER},
    )
    async def devices(self, info: Info) -> list[Device]:
        found: Any = await devices.list_devices(info.context)
        return found


@strawberry.type
class DeviceMutation:
    """Root mutations of devices."""

    @strawberry.mutation(
        description="Make a device of yours known, or say that it is still in use. Of more than 20 "
        "the one that was not seen for longest is forgotten."
    )
    async def register_device(
        self, info: Info, input: Annotated[RegisterDeviceInput, INPUT]
    ) -> DevicePayload:
        device: Any = await mutate(
            info,
            lambda ctx: devices.register_device(ctx, token=input.token, platform=input.platform),
        )
        return DevicePayload(device=device)

    @strawberry.mutation(description="Forget a device of yours.")
    async def unregister_device(
        self,
        info: Info,
        token: Annotated[str, strawberry.argument(description="What its push service calls it.")],
    ) -> UnregisterDevicePayload:
        gone = await mutate(info, lambda ctx: devices.unregister_device(ctx, token=token))
        return UnregisterDevicePayload(was_registered=gone.was_registered)

    @strawberry.mutation(
        description="Say that a device of yours shows a task; repeat it while it does. As long as "
        "one shows it, none of your devices is notified about that task."
    )
    async def watch_task(
        self,
        info: Info,
        task_id: TaskId,
        device_id: DeviceId,
        ttl_seconds: Annotated[
            int, strawberry.argument(description="For how long: 10 to 600.")
        ] = devices.TTL_SECONDS,
    ) -> WatchTaskPayload:
        shown = await mutate(
            info,
            lambda ctx: devices.watch_task(
                ctx, task_id=task_id, device_id=device_id, ttl_seconds=ttl_seconds
            ),
        )
        return WatchTaskPayload(workspace_id=shown.workspace_id, expires_at=shown.expires_at)

    @strawberry.mutation(description="Say that a device of yours shows a task no more.")
    async def unwatch_task(
        self, info: Info, task_id: TaskId, device_id: DeviceId
    ) -> UnwatchTaskPayload:
        shown = await mutate(
            info, lambda ctx: devices.unwatch_task(ctx, task_id=task_id, device_id=device_id)
        )
        return UnwatchTaskPayload(
            workspace_id=shown.workspace_id, task_id=strawberry.ID(shown.task_id)
        )
