"""Tables that were cut off or changed on the disk are named and set aside; what is no damage is left where it is."""

import pandas as pd
import pyarrow.parquet as pq
import pytest

from safety_heads import tables
from safety_heads.errors import UserError


@pytest.fixture
def shard(tmp_path):
    """A part of a Ships table, of a few pages."""
    rows = 4000
    frame = pd.DataFrame(
        {"model": "m", "dataset": "d", "format": "chat", "ablation": "ua", "query_id": "q"}, range(rows)
    )
    frame = frame.assign(layer=range(rows), head=0, kl_nats=[i * 0.7 for i in range(rows)], refusal_logodds_change=0.0)
    tables.write_table(frame, tables.SHIPS, tmp_path / "ships-1.parquet")
    return tmp_path / "ships-1.parquet"


@pytest.mark.parametrize("length", [0, 3, 1000, -1])
def test_a_truncated_table_is_set_aside(shard, length):
    shard.write_bytes(shard.read_bytes()[:length])
    with pytest.raises(UserError, match=r"ships-1\.parquet is damaged.*set aside as ships-1\.parquet\.damaged"):
        tables.read_table(tables.SHIPS, shard)
    assert not shard.exists() and shard.with_name("ships-1.parquet.damaged").exists()


def test_one_changed_byte_among_the_values_is_found(shard):
    column = pq.ParquetFile(shard).metadata.row_group(0).column(tables.SHIPS.schema.names.index("kl_nats"))
    data = bytearray(shard.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start + column.total_compressed_size // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(UserError, match=r"ships-1\.parquet is damaged"):
        tables.read_table(tables.SHIPS, [shard])


def test_a_whole_table_of_another_kind_stays_where_it_is(shard):
    with pytest.raises(UserError, match="is it a queries table"):
        tables.read_table(tables.QUERIES, shard)
    assert shard.exists() and len(tables.read_table(tables.SHIPS, shard)) == 4000
