// Blocks of 8 x 8 numbers on the tensor cores, which multiply in double precision from sm_80 on.
//
// A warp holds a block as two numbers of each lane: lane 4 i + q has those of row i in columns 2 q and 2 q + 1. Factors and
// results of products are held alike, so that a result is a factor of the next product.
#pragma once

#include "pack.h"

namespace qplayer {

constexpr int TILE = 8;
constexpr int TILE_NUMBERS = TILE * TILE;
constexpr int GROUP = 4;  // blocks in a row that a warp has in its registers at once
constexpr bool IS_SMALL = Block::size == GROUP * TILE;  // then there are no more, and what is rolled else is not

struct __align__(16) Tile {
    double x = 0, y = 0;
};

QP_FN Tile operator+(Tile a, Tile b) { return {a.x + b.x, a.y + b.y}; }
QP_FN Tile operator-(Tile a, Tile b) { return {a.x - b.x, a.y - b.y}; }

QP_FN void add_quarter(Tile& c, double a, double b) { add_quarter(c.x, c.y, a, b); }

// c += a b'
QP_FN void add_product(Tile& c, Tile a, Tile b) {
    add_quarter(c, a.x, b.x);
    add_quarter(c, a.y, b.y);
}

// Where a block in shared memory has its number (r, c): a lane's two numbers lie together, and neither they nor those
// of a column (a block's transpose) meet in a bank.
QP_FN constexpr int place(int r, int c) { return (r * TILE + c) ^ (r & 6) << 1; }

// What a thread is to the blocks.
struct Lane {
    int warp, row, q;
    int place, across[2];  // of its numbers in a block, and in its transpose
    QP_FN explicit Lane(Block block)
        : warp(Block::warps == 1 ? 0 : block.rank / WARP), row(unsigned(block.rank) % WARP / 4), q(block.rank & 3) {
        place = qplayer::place(row, 2 * q);
        across[0] = qplayer::place(2 * q, row), across[1] = across[0] ^ TILE;
    }
    QP_FN Tile load(const double* tile) const { return *reinterpret_cast<const Tile*>(tile + place); }
    QP_FN void store(double* tile, Tile v) const { *reinterpret_cast<Tile*>(tile + place) = v; }
    QP_FN Tile transposed(const double* tile) const { return {tile[across[0]], tile[across[1]]}; }
    QP_FN int rank() const { return 4 * row + q; }
};

// Block (i, j) of a lower triangle that is stored by rows of blocks.
QP_FN int lower(int i, int j) { return (i * (i + 1) + 2 * j) * (TILE_NUMBERS / 2); }

QP_FN int at_most(int v, int most) { return v < most ? v : most; }

}  // namespace qplayer
