"""Tables, vocabularies, the lifecycle, and the way to the database."""

from models.agent import Agent, AgentProgress
from models.artifact import Artifact
from models.base import Record, metadata, new_id, new_public_id, table_of, utcnow
from models.device import Device, Notification, Presence
from models.event import SITE_STREAM, Event, EventStream, IdempotencyRecord
from models.run import Run, RunInput, RunOutput
from models.story import Sprint, Story
from models.task import Task, TaskContext, TaskDependency
from models.totals import QueueStatistic, RunTotal, UsageTotal
from models.user import ApiKey, LoginThrottle, Membership, User
from models.webhook import Delivery, Webhook
from models.workspace import Counter, GitCredential, Repository, TaskTotal, Workspace

__all__ = [
    "SITE_STREAM",
    "Agent",
    "AgentProgress",
    "ApiKey",
    "Artifact",
    "Counter",
    "Delivery",
    "Device",
    "Event",
    "EventStream",
    "GitCredential",
    "IdempotencyRecord",
    "LoginThrottle",
    "Membership",
    "Notification",
    "Presence",
    "QueueStatistic",
    "Record",
    "Repository",
    "Run",
    "RunInput",
    "RunOutput",
    "RunTotal",
    "Sprint",
    "Story",
    "Task",
    "TaskContext",
    "TaskDependency",
    "TaskTotal",
    "UsageTotal",
    "User",
    "Webhook",
    "Workspace",
    "metadata",
    "new_id",
    "new_public_id",
    "table_of",
    "utcnow",
]
