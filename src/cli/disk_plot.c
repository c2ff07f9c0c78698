/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "disk_plot.h"

#include <math.h>
#include <stdbool.h>

#include "cli.h"
#include "fut_error.h"

#define WIDTH 720
#define HEIGHT 380
/* The axes' rectangle. */
#define LEFT 60
#define TOP 44
#define RIGHT (WIDTH - 24)
#define BOTTOM (HEIGHT - 48)
#define TICKS 8 /* about so many along the time */
#define POINTS_MAX 4096

typedef struct {
    double seconds, share;
} Point;

/* SVG has points as decimal separators whatever the locale says. */
static void add_number(GString *svg, double value)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];
    g_string_append(svg, g_ascii_formatd(text, sizeof(text), "%.2f", value));
}

static double x_of(double seconds, double last)
{
    return LEFT + (RIGHT - LEFT) * seconds / last;
}

static double y_of(double share)
{
    return BOTTOM - (BOTTOM - TOP) * share;
}

/* 1, 2 or 5 times a power of ten: the least that gives no more than TICKS ticks. */
static double step_of(double last)
{
    double power = pow(10, floor(log10(last / TICKS)));
    static const double steps[] = { 1, 2, 5 };

    for (unsigned i = 0; i < G_N_ELEMENTS(steps); i++) {
        if (last / (steps[i] * power) <= TICKS) {
            return steps[i] * power;
        }
    }
    return 10 * power;
}

static void add_line(GString *svg, double x1, double y1, double x2, double y2, const char *colour)
{
    const double at[] = { x1, y1, x2, y2 };
    static const char *const names[] = { "x1", "y1", "x2", "y2" };

    g_string_append(svg, "<line");
    for (unsigned i = 0; i < G_N_ELEMENTS(at); i++) {
        g_string_append_printf(svg, " %s=\"", names[i]);
        add_number(svg, at[i]);
        g_string_append_c(svg, '"');
    }
    g_string_append_printf(svg, " stroke=\"%s\"/>\n", colour);
}

static void add_text(GString *svg, double x, double y, const char *anchor, const char *text)
{
    g_autofree char *escaped = g_markup_escape_text(text, -1);

    g_string_append(svg, "<text x=\"");
    add_number(svg, x);
    g_string_append(svg, "\" y=\"");
    add_number(svg, y);
    g_string_append_printf(svg, "\" text-anchor=\"%s\">%s</text>\n", anchor, escaped);
}

static void add_axes(GString *svg, double last)
{
    double step = step_of(last);

    for (unsigned i = 0; i <= 4; i++) {
        g_autofree char *label = g_strdup_printf("%u %%", 25 * i);
        add_line(svg, LEFT, y_of(i / 4.0), RIGHT, y_of(i / 4.0), i ? "#dddddd" : "#444444");
        add_text(svg, LEFT - 8, y_of(i / 4.0) + 4, "end", label);
    }
    for (unsigned i = 0; i * step <= last; i++) {
        char label[G_ASCII_DTOSTR_BUF_SIZE];
        g_ascii_formatd(label, sizeof(label), "%g", i * step);
        add_line(svg, x_of(i * step, last), BOTTOM, x_of(i * step, last), BOTTOM + 5, "#444444");
        add_text(svg, x_of(i * step, last), BOTTOM + 19, "middle", label);
    }
    add_text(svg, (LEFT + RIGHT) / 2.0, HEIGHT - 10, "middle",
             "seconds since the disk was started");
}

static void add_curve(GString *svg, const GArray *points, double last)
{
    g_string_append(svg, "<polyline fill=\"none\" stroke=\"#0072b2\" stroke-width=\"2\" points=\"");
    for (guint i = 0; i < points->len; i++) {
        const Point *point = &g_array_index(points, Point, i);
        add_number(svg, x_of(point->seconds, last));
        g_string_append_c(svg, ',');
        add_number(svg, y_of(point->share));
        g_string_append_c(svg, ' ');
    }
    g_string_append(svg, "\"/>\n");
}

/* Points that go on in time, shares between 0 and 1: what a curve is. */
static GArray *points_of(const json_t *curve, GError **error)
{
    g_autoptr(GArray) points = g_array_new(FALSE, FALSE, sizeof(Point));
    const json_t *pairs = json_object_get(curve, "points"), *pair;
    double last = 0;
    size_t at;

    json_array_foreach(pairs, at, pair)
    {
        Point point = { json_number_value(json_array_get(pair, 0)),
                        json_number_value(json_array_get(pair, 1)) };
        bool good = json_array_size(pair) == 2 && point.seconds >= last && point.seconds < 1e9 &&
                    point.share >= 0 && point.share <= 1;
        if (!good || at >= POINTS_MAX) {
            break;
        }
        last = point.seconds;
        g_array_append_val(points, point);
    }
    if (points->len == 0 || points->len != json_array_size(pairs)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                    "disk '%s' tells no curve: its plugin may be of another version",
                    fut_cli_text(curve, "disk"));
        return NULL;
    }
    return g_steal_pointer(&points);
}

char *fut_disk_plot(const json_t *curve, GError **error)
{
    g_autoptr(GArray) points = points_of(curve, error);

    if (!points) {
        return NULL;
    }
    const Point *end = &g_array_index(points, Point, points->len - 1);
    double last = MAX(end->seconds, 0.1);
    GString *svg = g_string_new(NULL);
    g_autofree char *title =
        g_strdup_printf("%s: share of the disk that is here", fut_cli_text(curve, "disk"));

    g_string_printf(svg,
                    "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
                    "viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n"
                    "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
                    WIDTH, HEIGHT, WIDTH, HEIGHT);
    add_text(svg, LEFT, TOP - 18, "start", title);
    add_axes(svg, last);
    add_curve(svg, points, last);
    g_string_append(svg, "</svg>\n");
    return g_string_free(svg, FALSE);
}
