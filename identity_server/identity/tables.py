"""The base that every table of the identity server stands on."""

from sqlalchemy.orm import DeclarativeBase, MappedAsDataclass

from identity_server.runtime.database import COLUMN_TYPES
from identity_server.runtime.leases import leases_table
from identity_server.runtime.tasks import tasks_table


class Table(MappedAsDataclass, DeclarativeBase):
    type_annotation_map = COLUMN_TYPES


tasks_table(Table.metadata)
leases_table(Table.metadata)
